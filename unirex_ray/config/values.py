"""Checks of single values of the configuration: paths, addresses, labels, resources."""

from __future__ import annotations

import os
import re
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, TypeAdapter, ValidationError

UserPath = Annotated[str, Field(min_length=1), AfterValidator(os.path.expanduser)]


def absolute_if_there(path: str) -> str:
    """The absolute path of a file or folder that is there; anything else, such as a hub id or `embedded`, as it is.

    Workers run in other folders, where a relative path would lead elsewhere, or to a hub model of that name.
    """
    return os.path.abspath(path) if path != "embedded" and os.path.exists(path) else path


Source = Annotated[UserPath, AfterValidator(absolute_if_there)]
Folder = Annotated[UserPath, AfterValidator(os.path.abspath)]


def label_text(value: object) -> str:
    """A label as text; a whole number as it is written.

    Raises:
        ValueError: for a value whose spelling is not known any more, such as that of a boolean.
    """
    if isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    kind = type(value).__name__
    raise ValueError(
        f"data.labels: a label is text, but {value!r} is of type {kind}; write it in quotes, as in the data"
    )


Label = Annotated[str, BeforeValidator(label_text)]


def without_credentials(uri: str) -> str:
    """`uri` as it is.

    Raises:
        ValueError: if it holds a user, a password or a query, which may be a token: it is shown, logged and exported;
            if it cannot be taken apart.
    """
    if "?" in uri and uri.lower().startswith("http"):
        raise ValueError("tracking.uri must hold no ?...; set MLFLOW_TRACKING_TOKEN for a server that wants a token")
    try:
        host = urlsplit(uri).netloc
    except ValueError as error:
        raise ValueError(f"tracking.uri is no address: {error}") from None
    if "@" in host:
        raise ValueError(
            "tracking.uri must hold no user and no password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        )
    return uri


def absolute_database(uri: str) -> str:
    """`uri` with the path of an SQLite database made absolute: whoever reads it later may work in another folder."""
    path = uri.removeprefix("sqlite:///")
    return uri if path in (uri, "") or path.startswith("/") else f"sqlite:///{os.path.abspath(path)}"


TrackingUri = Annotated[str, AfterValidator(without_credentials), AfterValidator(absolute_database)]


SMALLEST_SHARE = 1e-4
"""Of a resource, that Ray can tell apart."""


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None


def gpu_share(value: object) -> bool | float:
    """Whether a worker takes a GPU; or the share that it takes, if that is less than a whole one.

    Raises:
        ValueError: for anything else.
    """
    number = _number(value)
    if number is not None and SMALLEST_SHARE <= number <= 1 - SMALLEST_SHARE:
        return round(number, 4)
    try:
        return _TRUTH.validate_python(value if number is None else number)
    except ValidationError:
        raise ValueError(
            f"train.gpu = {value!r}: must be true, false, or for one worker a share of a GPU, {SMALLEST_SHARE} to 1"
        ) from None


Share = Annotated[bool | float, PlainValidator(gpu_share)]
_TRUTH = TypeAdapter(bool)
_OWN_KEYS = {"cpu": "train.threads", "gpu": "train.gpu"}
_OF_RAY = ("memory", "object_store_memory")


def custom_resource(text: str) -> tuple[str, float]:
    """Name and amount of an entry of `train.resources`.

    Raises:
        ValueError: if it is none.
    """
    name, _, amount = text.rpartition("=")
    name, number = name.strip(), _number(amount)
    if not name or number is None:
        raise ValueError(f"train.resources: {text!r} must be NAME=AMOUNT, such as accelerator_type:A100=0.001")
    if name.lower() in _OWN_KEYS:
        raise ValueError(f"train.resources: {text!r}: set {_OWN_KEYS[name.lower()]} instead")
    if name.lower() in _OF_RAY:
        raise ValueError(f"train.resources: {text!r}: must be a custom resource of the cluster's nodes")
    if not (SMALLEST_SHARE <= number <= 1 or (number > 1 and number.is_integer())):
        raise ValueError(f"train.resources: {text!r}: the amount must be from {SMALLEST_SHARE} to 1, or a whole number")
    return name, round(number, 4)


def _as_given(text: str) -> str:
    custom_resource(text)
    return text


Resource = Annotated[str, AfterValidator(_as_given)]


def without_keys(uri: str) -> str:
    """`uri` as it is.

    Raises:
        ValueError: if it holds keys, as it is recorded; if it is neither a path nor a URI.
    """
    parts = urlsplit(uri) if "://" in uri else urlsplit("")
    options = [name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
    if ":" in parts.netloc.rpartition("@")[0] or any(re.search("key|secret|token|password", name) for name in options):
        raise ValueError(
            "sweep.storage must hold no keys; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or what it reads"
        )
    if re.match(r"\w+:/(?!/)", uri):
        raise ValueError(f"sweep.storage = {uri!r}: a URI has two slashes, as s3://bucket/folder has")
    return uri


def absolute_folder(path: str) -> str:
    """The absolute path of a folder; a URI as it is."""
    return path if "://" in path else os.path.abspath(path)


Storage = Annotated[UserPath, AfterValidator(without_keys), AfterValidator(absolute_folder)]
