"""The page for a browser, and the same as a REST API: what :mod:`hostler.views` tells, served.

It reads. Only with ``--operate``, and for a token whose role is *operator*, does it call the verbs that the commands
call. Every request needs a token; a page never carries script or style of its own, and whatever a name or an error
holds is text.
"""
