"""What an operator can be told of migrations: read models, which the commands show, and whatever else looks on.

Nothing here changes a record, and nothing knows a terminal or a browser.
"""
