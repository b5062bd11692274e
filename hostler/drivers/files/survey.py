"""What of a server moves, and what keeps it from being moved. Nothing is changed here.

A disk in a directory directly under *instances_path* that is its server's alone moves with the whole
directory; every other file by itself. The directory is the server's alone

* if it bears the server's name or UUID: then a file in it that another server uses is an obstacle;
* else if no other server uses anything in it, no migration has left a trace in it, and it holds no image that
  the server does not use: then it may well be a pool in which only one server has its disks, and its files
  move one by one.

NVRAM or TPM state that is not there is no obstacle: the hypervisor makes it when the guest starts, here as
there.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from hostler.drivers.files import disk as on_disk
from hostler.drivers.files import markers, tree
from hostler.drivers.files.chain import Chains
from hostler.drivers.files.place import Place
from hostler.drivers.files.uses import Uses, is_own
from hostler.errors import DiskNotFound, ImageTransferError, InvalidDiskInfo
from hostler.objects import Disk, Domain, Unit, UnitKind

#: What is added to a name at most: ``.<uuid>_removed``, in bytes.
_LONGEST_SUFFIX = 45
_NAME_MAX = 255
_IMAGE_SUFFIXES = frozenset(
    {".qcow2", ".qcow", ".img", ".raw", ".iso", ".vmdk", ".vdi", ".vhd", ".vhdx", ".qed"}
)


class Survey:
    """One look at one domain's files."""

    def __init__(
        self,
        place: Place,
        domain: Domain,
        others: Sequence[Domain],
        digest: Callable[[str], str],
        block: Callable[[Disk], tuple[Unit | None, list[str]]],
    ) -> None:
        self._place = place
        self._domain = domain
        self._digest = digest
        self._block = block  #: looks at a disk that is a block device
        self._disks = [one for one in domain.disks if not one.block]
        self._chains = Chains(place.at)
        self._uses = Uses(place, others, self._chains)
        self._units: list[Unit] = []
        self._directories: dict[str, bool] = {}  # candidates: whether they move as a whole
        self._obstacles: dict[str, None] = {}  # a set that keeps its order

    def take(self) -> tuple[list[Unit], list[str]]:
        """Return the units and the obstacles."""
        own = self._own_files()
        backing = self._backing_files()
        for path in own:
            self._take_own(path)
        for one in self._domain.disks:
            if one.block:
                self._take_block(one)
        if self._domain.tpm_state is not None:
            self._take_tpm_state(self._domain.tpm_state)
        for path in dict.fromkeys([*self._readonly_files(), *backing]):
            self._take_shared(path)
        return self._units, list(self._obstacles)

    def _object(self, sentence: str) -> None:
        self._obstacles[sentence] = None

    # -- which paths --------------------------------------------------------------------------------------

    def _own_files(self) -> list[str]:
        paths: list[str] = []
        for one in self._disks:
            if is_own(one):
                if one.path in paths:
                    self._object(f"two disks of {self._domain.name} are the same file, {one.path}")
                paths.append(one.path)
        nvram = self._domain.nvram
        if nvram is not None and on_disk.look(self._place.at(nvram)) is not None:
            paths.append(nvram)
        return [path for path in dict.fromkeys(paths) if self._is_plain(path)]

    def _readonly_files(self) -> list[str]:
        paths = [one.path for one in self._disks if not is_own(one)]
        return [path for path in [*paths, *self._domain.boot_files] if self._is_plain(path)]

    def _backing_files(self) -> list[str]:
        found: list[str] = []
        for one in self._disks:
            if self._is_plain(one.path) and on_disk.look(self._place.at(one.path)) is not None:
                chain = self._chains.of(one.path, one.format)
                found += chain.backing
                for problem in chain.problems:
                    self._object(problem)
                if not chain.problems and one.backing and one.backing != chain.backing:
                    self._object(
                        f"the definition says that {one.path} is backed by {', '.join(one.backing)}, "
                        f"the image says {', '.join(chain.backing) or 'by nothing'}"
                    )
        return found

    def _is_plain(self, path: str) -> bool:
        """Whether *path* is absolute and has no ``..``, and can be written down."""
        problem = tree.nameable(path)
        if problem is None and (
            not path.startswith("/") or path != str(PurePosixPath(path)) or ".." in path.split("/")
        ):
            problem = f"the path {path} is not absolute and plain; change it in the definition (virsh edit)"
        if problem is not None:
            self._object(problem)
        return problem is None

    # -- own ----------------------------------------------------------------------------------------------

    def _take_own(self, path: str) -> None:
        self._regular(path)
        directory = self._directory_of(path)
        if directory is None or not self._moves_whole(directory):
            self._take_file(path)

    def _regular(self, path: str) -> os.stat_result | None:
        status = on_disk.look(self._place.at(path))
        if status is None:
            self._object(f"{path} does not exist")
        elif stat.S_ISLNK(status.st_mode):
            self._object(f"{path} is a symbolic link; name the file itself in the definition (virsh edit)")
        elif not on_disk.is_file(status):
            self._object(f"{path} is not a regular file")
        else:
            return status
        return None

    def _take_file(self, path: str) -> None:
        file = self._place.at(path)
        status = on_disk.look(file)
        if status is None or not on_disk.is_file(status):
            return
        problems = [tree.obstacle(path, status, file.parent.stat().st_dev), *self._name_problems(path)]
        problems += [f"{path} is used by {use.server}, too" for use in self._uses.of(path)]
        for problem in filter(None, problems):
            self._object(problem)
        self._units.append(tree.file_unit(path, UnitKind.OWN, status, self._image(path)))

    def _take_block(self, one: Disk) -> None:
        if not self._is_plain(one.path):
            return
        unit, problems = self._block(one)
        problems += [f"{one.path} is used by {use.server}, too" for use in self._uses.of(one.path)]
        if any(one.path == other.path for other in self._units):
            problems.append(f"two disks of {self._domain.name} are the same device, {one.path}")
        for problem in problems:
            self._object(problem)
        if unit is not None:
            self._units.append(unit)

    def _take_tpm_state(self, path: str) -> None:
        status = on_disk.look(self._place.at(path))
        if status is None or not self._is_plain(path) or self._covered(path):
            return
        if not on_disk.is_directory(status):
            self._object(f"{path} is not a directory")
            return
        for use in self._uses.within(path):
            self._object(f"{path} is used by {use.server}, too")
        self._take_directory(path)

    def _take_directory(self, path: str) -> None:
        contents = tree.read(self._place.at(path), path)
        status = self._place.at(path).lstat()
        if status.st_dev != self._place.at(path).parent.stat().st_dev:
            self._object(f"{path} is a mount point")
        for problem in [*contents.problems, *self._name_problems(path)]:
            self._object(problem)
        marker = markers.read(self._place.at(path))
        if marker is not None:
            self._object(f"{path} bears the mark of migration {marker.migration}: it has not ended well")
        files = [tree.as_image(entry, self._image(f"{path}/{entry.name}")) for entry in contents.files]
        self._units.append(tree.directory_unit(path, status, files, contents.subdirectories))

    def _image(self, path: str) -> tuple[str, int] | None:
        """Return the declared format of the image at *path*, and the size that the guest sees."""
        for one in self._disks:
            if one.path == path:
                return one.format, self._chains.of(path, one.format).virtual_bytes
        return None

    def _name_problems(self, path: str) -> list[str]:
        """What stands where *path* is to be set aside, and whether there is a name for it at all."""
        home = PurePosixPath(path)
        if len(os.fsencode(home.name)) + _LONGEST_SUFFIX > _NAME_MAX:
            return [f"the name of {path} is too long to be set aside"]
        if home.name.startswith(markers.NAME):
            return [f"{path} is named like a marker of hostler"]
        problems = []
        aside = self._place.at(path + "_resize")
        if on_disk.is_directory(on_disk.look(self._place.at(path))) and on_disk.look(aside) is not None:
            marker = markers.read(aside)
            whose = f"migration {marker.migration}" if marker else "an unknown migration"
            problems.append(f"{path}_resize is there already, from {whose}")
        for name in _names_in(self._place, str(home.parent)):
            if name.startswith(home.name + ".") and name.endswith("_resize") and markers.migration_in(name):
                problems.append(
                    f"{home.parent / name} is there already, from migration {markers.migration_in(name)}"
                )
        return problems

    # -- directories --------------------------------------------------------------------------------------

    def _directory_of(self, path: str) -> str | None:
        """Return the directory directly under *instances_path* in which *path* lies."""
        base = PurePosixPath(self._place.instances_path)
        if not PurePosixPath(path).is_relative_to(base):
            return None
        parts = PurePosixPath(path).relative_to(base).parts
        return str(base / parts[0]) if len(parts) > 1 else None

    def _covered(self, path: str) -> bool:
        directory = self._directory_of(path)
        return directory is not None and self._directories.get(directory, False)

    def _moves_whole(self, directory: str) -> bool:
        if directory not in self._directories:
            whole = self._is_alone(directory)
            self._directories[directory] = whole
            if whole:
                self._take_directory(directory)
        return self._directories[directory]

    def _is_alone(self, directory: str) -> bool:
        if not on_disk.is_directory(on_disk.look(self._place.at(directory))):
            return False
        inside = tree.read(self._place.at(directory), directory)
        uses = self._uses.within(directory)
        uses += [use for entry in inside.files for use in self._uses.of(f"{directory}/{entry.name}")]
        traces = [name for name in _names_in(self._place, directory) if markers.migration_in(name)]
        if posixpath.basename(directory) in (self._domain.name, self._domain.uuid):
            for use in uses:
                self._object(
                    f"{use.path}, in the directory of {self._domain.name}, is used by {use.server}, too"
                )
            for name in traces:
                self._object(f"{directory}/{name} was left by migration {markers.migration_in(name)}")
            return True
        return not uses and not traces and not self._strange_images(directory, [e.name for e in inside.files])

    def _strange_images(self, directory: str, names: list[str]) -> list[str]:
        known = {one.path for one in self._disks}
        for one in self._disks:
            known.update(self._chains.of(one.path, one.format).backing)
        known.update(self._domain.boot_files)
        images = [name for name in names if PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES]
        return [name for name in images if f"{directory}/{name}" not in known]

    # -- shared -------------------------------------------------------------------------------------------

    def _take_shared(self, path: str) -> None:
        status = self._regular(path)
        if status is None or self._covered(path) or any(unit.path == path for unit in self._units):
            return
        writers = [use.server for use in self._uses.of(path) if use.writes]
        if writers:
            self._object(f"{path} is written to by {', '.join(dict.fromkeys(writers))}")
            return
        try:
            digest = self._digest(path)
        except (DiskNotFound, ImageTransferError, InvalidDiskInfo, OSError) as error:
            self._object(f"{path} cannot be read: {error}")
            return
        self._units.append(tree.file_unit(path, UnitKind.SHARED, status, self._image(path), digest))


def _names_in(place: Place, directory: str) -> list[str]:
    try:
        with os.scandir(place.at(directory)) as entries:
            return sorted(one.name for one in entries)
    except OSError:
        return []
