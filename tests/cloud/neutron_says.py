"""Says what Neutron says of ports, by its own notifier: SETTINGS EVENTS. The Python of a Neutron runs it."""

import json
import sys

from neutron.common import config
from neutron.notifiers import nova

config.register_common_config_options()
config.init(["--config-file", sys.argv[1]])
config.setup_logging()
nova.Notifier().send_events(json.loads(sys.argv[2]))
