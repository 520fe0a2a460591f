"""A form as it arrives: small fields are kept, the file goes on piece by piece."""

from __future__ import annotations

from collections.abc import Callable

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from fairlead.model import RequestError

MAX_FIELD_BYTES = 1024
MAX_FIELDS = 16
MAX_HEAD_BYTES = 8192


class Form:
    """Takes a `multipart/form-data` body in pieces of any size."""

    def __init__(self, content_type: bytes | None, file_data: Callable[[bytes], None]) -> None:
        """`file_data` takes what is in the part called `file`. Raises `RequestError` where the
        body is no form."""
        kind, options = parse_options_header(content_type or b"")
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary or len(boundary) > 256:
            raise _broken("send multipart/form-data with the parts purpose and file")
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.has_file = False
        self.is_whole = False
        self._file_data = file_data
        self._n_parts = 0
        self._n_head = 0
        self._name = ""
        self._value = b""
        self._header, self._headers = [b"", b""], dict[bytes, bytes]()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, a, b: self._head(0, data[a:b]),
                "on_header_value": lambda data, a, b: self._head(1, data[a:b]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, a, b: self._data(data[a:b]),
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> None:
        """Raises `RequestError` where it is no part of a form."""
        try:
            self._parser.write(piece)
        except MultipartParseError as error:
            raise _broken(str(error)) from None

    def _begin_part(self) -> None:
        self._n_parts += 1
        if self._n_parts > MAX_FIELDS:
            raise _broken(f"more than {MAX_FIELDS} parts")
        self._headers = {}
        self._name, self._value, self._n_head = "", b"", 0

    def _head(self, which: int, data: bytes) -> None:
        self._n_head += len(data)
        if self._n_head > MAX_HEAD_BYTES:
            raise _broken("a part's headers are too long")
        self._header[which] += data

    def _end_header(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name == "file":
            if self.has_file:
                raise _broken("one file at a time")
            self.has_file = True
            self.filename = options.get(b"filename", b"").decode(errors="replace")

    def _data(self, data: bytes) -> None:
        if self._name == "file":
            self._file_data(data)
            return
        self._value += data
        if len(self._value) > MAX_FIELD_BYTES:
            raise _broken(f"the part {self._name[:64]!r} has more than {MAX_FIELD_BYTES} bytes")

    def _end_part(self) -> None:
        if self._name != "file":
            self.fields[self._name] = self._value.decode(errors="replace")

    def _end(self) -> None:
        self.is_whole = True


def _broken(why: str) -> RequestError:
    return RequestError(f"the upload cannot be read: {why}", code="invalid_form")
