"""lvm2 without device-mapper: the same commands with the same answers, and regular files in place of devices."""

from __future__ import annotations

import errno
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hostler.drivers.files.lvm import Lvm

EXTENT_BYTES = 4 << 20


class FakeLvm(Lvm):
    """Takes the commands that :class:`Lvm` gives. Its state lies below *root*, and so do its volumes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "run/hostler/lvm.lock")
        self._root = root
        self._kept = root / "var/lib/lvm-fake.json"

    def add_group(self, name: str, extents: int) -> None:
        """Give the host a volume group."""
        state = self._state() if self._kept.exists() else {}
        state[name] = {"uuid": str(uuid.uuid4()), "extents": extents, "volumes": {}}
        self._keep(state)

    def _run(self, command: Sequence[str]) -> str:
        state = self._state()
        said: str = getattr(self, f"_{command[0]}")(state, list(command[1:]))
        return said

    # -- reports ------------------------------------------------------------------------------------------

    def _lvs(self, state: dict[str, Any], _: list[str]) -> str:
        rows = [
            {
                "vg_name": group,
                "vg_uuid": facts["uuid"],
                "lv_name": name,
                "lv_uuid": one["uuid"],
                "lv_size": str(one["extents"] * EXTENT_BYTES),
                "lv_role": one["role"],
                "lv_tags": ",".join(sorted(one["tags"])),
                "lv_path": f"/dev/{group}/{name}",
                "lv_dm_path": f"/dev/mapper/{group.replace('-', '--')}-{name.replace('-', '--')}",
            }
            for group, facts in state.items()
            for name, one in sorted(facts["volumes"].items())
        ]
        return json.dumps({"report": [{"lv": rows}]})

    def _vgs(self, state: dict[str, Any], _: list[str]) -> str:
        rows = [
            {
                "vg_name": group,
                "vg_uuid": facts["uuid"],
                "vg_extent_size": str(EXTENT_BYTES),
                "vg_free_count": str(_free(facts)),
            }
            for group, facts in state.items()
        ]
        return json.dumps({"report": [{"vg": rows}]})

    # -- changes ------------------------------------------------------------------------------------------

    def _lvcreate(self, state: dict[str, Any], words: list[str]) -> str:
        name, size, tag, group = words[-6], words[-4], words[-2], words[-1]
        facts = state[group]
        if name in facts["volumes"]:
            raise _refusal("lvcreate", f'Logical Volume "{name}" already exists in volume group "{group}"')
        extents = -(-int(size.removesuffix("b")) // EXTENT_BYTES)
        if extents > _free(facts):
            short = f"({_free(facts)} extents): {extents} required."
            raise _refusal("lvcreate", f'Volume group "{group}" has insufficient free space {short}')
        one = {"uuid": str(uuid.uuid4()), "extents": extents, "tags": [tag], "role": "public"}
        facts["volumes"][name] = one
        self._device(group, name).parent.mkdir(parents=True, exist_ok=True)
        with self._device(group, name).open("wb") as device:
            # what was in these extents before
            device.write(b"\xa5" * 4096)
            device.truncate(extents * EXTENT_BYTES)
        self._keep(state)
        return ""

    def _lvrename(self, state: dict[str, Any], words: list[str]) -> str:
        group, old, new = words
        volumes = self._volumes(state, "lvrename", group, old)
        if new in volumes:
            raise _refusal("lvrename", f'Logical Volume "{new}" already exists in volume group "{group}"')
        volumes[new] = volumes.pop(old)
        self._keep(state)
        self._device(group, old).rename(self._device(group, new))
        return ""

    def _lvchange(self, state: dict[str, Any], words: list[str]) -> str:
        verb, tag, (group, _, name) = words[0], words[1], words[2].partition("/")
        one = self._volumes(state, "lvchange", group, name)[name]
        one["tags"] = sorted({*one["tags"], tag} if verb == "--addtag" else {*one["tags"]} - {tag})
        self._keep(state)
        return ""

    def _lvextend(self, state: dict[str, Any], words: list[str]) -> str:
        group, _, name = words[2].partition("/")
        one = self._volumes(state, "lvextend", group, name)[name]
        extents = -(-int(words[1].removesuffix("b")) // EXTENT_BYTES)
        if extents - one["extents"] > _free(state[group]):
            raise _refusal("lvextend", "Insufficient free space")
        one["extents"] = extents
        self._keep(state)
        with self._device(group, name).open("r+b") as device:
            device.truncate(extents * EXTENT_BYTES)
        return ""

    def _lvremove(self, state: dict[str, Any], words: list[str]) -> str:
        group, _, name = words[1].partition("/")
        del self._volumes(state, "lvremove", group, name)[name]
        self._device(group, name).unlink()
        self._keep(state)
        return ""

    # -- underneath ---------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        if not self._kept.exists():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "lvm")
        found: dict[str, Any] = json.loads(self._kept.read_text(encoding="utf-8"))
        return found

    def _keep(self, state: dict[str, Any]) -> None:
        self._kept.parent.mkdir(parents=True, exist_ok=True)
        self._kept.write_text(json.dumps(state, indent=1, sort_keys=True), encoding="utf-8")

    def _volumes(self, state: dict[str, Any], command: str, group: str, name: str) -> dict[str, Any]:
        volumes: dict[str, Any] = state[group]["volumes"]
        if name not in volumes:
            raise _refusal(command, f'Failed to find logical volume "{group}/{name}"')
        return volumes

    def _device(self, group: str, name: str) -> Path:
        return self._root / "dev" / group / name


def _free(facts: dict[str, Any]) -> int:
    taken: int = sum(one["extents"] for one in facts["volumes"].values())
    return int(facts["extents"]) - taken


def _refusal(command: str, words: str) -> OSError:
    return OSError(errno.EIO, words, command)
