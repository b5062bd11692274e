"""What the drivers say about the world, as plain records that travel through a flow as JSON.

No type of libvirt, kazoo or SQLAlchemy appears here. Sizes are in bytes unless the name says otherwise; paths are
absolute and as the domain names them.
"""

from __future__ import annotations

from hostler.objects.copy import *
from hostler.objects.domain import *
from hostler.objects.host import *
from hostler.objects.inventory import *
from hostler.objects.record import *
