"""The metadata of a store: what its `zarr.json` files must say, and what they do say."""

import json
import re
from typing import Any

from logitstore.errors import NotAStore, SpecError, StoreMissing, UnsupportedVersion
from logitstore.format.identity import VERSION_1, Identity
from logitstore.format.layout import FORMAT_NAME, FORMAT_VERSION, ROOT_DOCUMENT, arrays, documents, root_attributes
from logitstore.spec import StoreSpec
from logitstore.storage import Storage
from logitstore.untrusted import BadInput, parse_json

_ROOT_KEYS = {
    version: set(root_attributes({}, version=version, store_id=0)) for version in range(1, FORMAT_VERSION + 1)
}


def read_root(storage: Storage) -> tuple[StoreSpec, Identity]:
    """The spec from a store's root, and what its files say of their store.

    Raises `StoreMissing`, `NotAStore` or `UnsupportedVersion`.
    """
    root = _read_json(storage, ROOT_DOCUMENT)
    if root is None and not storage.exists():
        raise StoreMissing(f"{storage} does not exist: check the path, or let a teacher pass create it")
    attributes = root.get("attributes") if isinstance(root, dict) else None
    if not isinstance(attributes, dict) or attributes.get("format") != FORMAT_NAME:
        raise NotAStore(f"{storage} is not a logit store: its zarr.json is missing, unreadable or of something else")
    version = attributes.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise NotAStore(f"{storage}: format_version is {version!r:.100}, which no release has written")
    if version > FORMAT_VERSION:
        raise UnsupportedVersion(
            f"{storage} is written in format version {version}, this program reads up to {FORMAT_VERSION}: "
            "install a newer version of logitstore"
        )
    unknown = sorted(set(attributes) - _ROOT_KEYS[version])
    if unknown:
        raise UnsupportedVersion(
            f"{storage} has attributes this version does not know: {', '.join(unknown):.200}; "
            "install the version of logitstore that wrote it, or remove them if they were added by hand"
        )
    spec = attributes.get("spec")
    if not isinstance(spec, dict):
        raise NotAStore(f"{storage}: the attribute `spec` is missing or no object")
    try:
        parsed = StoreSpec.from_json(spec)
    except SpecError as error:
        raise NotAStore(f"{storage}: its spec is not valid: {error}") from None
    except UnsupportedVersion as error:
        raise UnsupportedVersion(f"{storage}: {error}") from None
    store_id = _store_id(attributes.get("store_id")) if version > 1 else 0
    if store_id is None or attributes != root_attributes(spec, version=version, store_id=store_id):
        raise NotAStore(
            f"{storage}: its spec does not match its checksum: damaged, or edited by hand; restore zarr.json"
        )
    return parsed, Identity.of(parsed, store_id=store_id) if version > 1 else VERSION_1


def _store_id(text: object) -> int | None:
    """The number of 16 hex digits, None where the text is something else, or 0."""
    if not isinstance(text, str) or not re.fullmatch("[0-9a-f]{16}", text):
        return None
    return int(text, 16) or None


def metadata_faults(storage: Storage, spec: StoreSpec, identity: Identity) -> list[tuple[str, str]]:
    """Where the metadata files disagree with the spec: (file, what is wrong), empty where they agree.

    An array may be laid out for more epochs than the spec has: `grow` was stopped before its last step.
    """
    faults = []
    for key, expected in documents(spec, identity).items():
        found = _read_json(storage, key)
        if not isinstance(found, dict):
            faults.append((key, "missing or no readable JSON"))
            continue
        if _longer(found.get("shape"), expected.get("shape")) and "epoch" in expected["dimension_names"]:
            found = {**found, "shape": expected["shape"]}
        names = ("zarr_format", "node_type") if expected["node_type"] == "group" else tuple({**expected, **found})
        differing = [name for name in names if found.get(name) != expected.get(name)]
        if differing:
            faults.append((key, "; ".join(_difference(name, found, expected) for name in differing)))
    return faults


def unfinished_growth(storage: Storage, spec: StoreSpec) -> bool:
    """Whether a killed `grow` left arrays laid out for more epochs than the spec has."""
    expected = {name: layout.document() for name, layout in arrays(spec).items()}
    return any(
        _longer(_shape(_read_json(storage, f"{name}/zarr.json")), expected[name]["shape"])
        for name, layout in arrays(spec).items()
        if "E" in layout.dims
    )


def _longer(found: Any, expected: Any) -> bool:
    """Whether a shape is the expected one with a larger first dimension."""
    if not isinstance(found, list) or not isinstance(expected, list) or not found or found[1:] != expected[1:]:
        return False
    return isinstance(found[0], int) and found[0] > expected[0]


def _difference(name: str, found: dict[str, Any], expected: dict[str, Any]) -> str:
    return f"{name} is {json.dumps(found.get(name)):.200} where the spec requires {json.dumps(expected.get(name)):.200}"


def _read_json(storage: Storage, key: str) -> Any:
    try:
        return parse_json(storage.read(key))
    except (OSError, BadInput):
        return None


def _shape(document: Any) -> Any:
    return document.get("shape") if isinstance(document, dict) else None
