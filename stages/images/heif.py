"""The outline of a HEIF (HEIC) or AVIF file, read before a decoder sees it: what is coded how, and what it costs.

The decoders check the size of the image, not what it is made from: a grid of 1,000 tiles that are each larger than the
image, or a thousand hidden frames before the one that shows, take minutes. ISO/IEC 14496-12 (boxes), 23008-12 (HEIF:
items, `iref`, `ipma`), 14496-15 (`hvcC`, NAL units) and the AV1 specification, 5.3 (OBUs), give the layout.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from stages.images.limits import (
    DAMAGED,
    MAX_BYTES,
    MAX_DECODED,
    MAX_PARTS,
    MAX_PIXELS,
    TOO_MANY_PIXELS,
    TOO_MUCH_HEADER,
    ImageError,
)

FILM_BRANDS = {b"avis", b"hevc", b"hevx", b"hevm", b"hevs", b"msf1"}
BRANDS = {b"avif", b"heic", b"heix", b"heim", b"heis", b"mif1"} | FILM_BRANDS
DERIVED = {b"grid", b"iden", b"iovl", b"tmap"}
OTHER_CODECS = {b"avc1": "H.264", b"j2k1": "JPEG 2000", b"jpeg": "JPEG", b"unci": "no compression", b"vvc1": "H.266"}


class _CutShortError(ImageError):
    """The data end where they should go on."""


class _Fields:
    """Big-endian numbers, one after the other."""

    def __init__(self, data: memoryview):
        self.data, self.position = data, 0

    def take(self, size: int) -> memoryview:
        if self.position + size > len(self.data):
            raise _CutShortError(DAMAGED)
        self.position += size
        return self.data[self.position - size : self.position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def count(self, size: int) -> int:
        """A number of things that follow."""
        number = self.number(size)
        if number > MAX_PARTS:
            raise ImageError(TOO_MUCH_HEADER)
        return number


@dataclass
class _Item:
    kind: bytes
    data: list[memoryview] = field(default_factory=list)
    properties: dict[bytes, memoryview] = field(default_factory=dict)
    made_of: list[int] = field(default_factory=list)  # tiles or layers, and masks
    cut_short: bool = False  # its data should go on where they, or the file, end


def is_heif(data: bytes) -> bool:
    """Whether a file is HEIF or AVIF by its brands; films (MP4, MOV) have others."""
    size = int.from_bytes(data[:4], "big")
    brands = {data[8:12]} | {data[start : start + 4] for start in range(16, min(size, len(data), 256), 4)}
    return data[4:8] == b"ftyp" and not BRANDS.isdisjoint(brands)


def still_image(data: bytes) -> tuple[bytes, str]:
    """What to give to the decoder, and which: "AVIF" or "HEIF".

    A film in the file is hidden, so that no decoder reads the list of its frames: the still image beside it is taken.
    Raises ImageError for a damaged file, one that costs too much, and one with a codec that is not read.
    """
    top, film, end = {}, [], 0
    with suppress(_CutShortError):  # of what lies behind the last whole box, nothing is read
        for kind, content, start, stop in _boxes(memoryview(data)):
            top.setdefault(kind, content)
            end = stop
            if kind == b"moov":
                film.append(start)
    data = data[:end]
    if b"meta" not in top:
        raise ImageError("a film without a still image" if film else DAMAGED)
    primary, items = _read_items(memoryview(data), top[b"meta"])
    if _pixels(items[primary]) > MAX_PIXELS:
        raise ImageError(TOO_MANY_PIXELS)
    costs: dict[int, int] = {}
    _cost(primary, items, costs)
    needed = list(costs)  # the primary item and all that it is made of
    if any(_cost(number, items, costs) > MAX_DECODED for number in items):
        raise ImageError(f"more than {MAX_DECODED:,} pixels in its tiles, layers and frames")
    if any(_is_of_other_size(items[number]) or items[number].cut_short for number in needed):  # which would show green
        raise ImageError(DAMAGED)
    codec = _codec(primary, items)
    if codec not in (b"av01", b"hvc1"):
        name = OTHER_CODECS.get(codec, "an unknown codec")
        raise ImageError(f"a HEIF image with {name} inside, which is not read; save it as JPEG or PNG")
    if codec == b"av01" and _is_cropped(items[primary]):
        raise ImageError("a cropped AVIF image, which is not read; save it as JPEG or PNG")
    return _without_film(data, film, codec) if film else data, "AVIF" if codec == b"av01" else "HEIF"


def _without_film(data: bytes, film: list[int], codec: bytes) -> bytes:
    """The same file with the film's boxes named as free space, and no brand that promises a film."""
    changed = bytearray(data)
    for start in film:
        changed[start + 4 : start + 8] = b"free"
    for start in range(16, int.from_bytes(data[:4], "big"), 4):
        if data[start : start + 4] in FILM_BRANDS:
            changed[start : start + 4] = b"mif1"
    changed[8:12] = b"avif" if codec == b"av01" else b"heic"
    return bytes(changed)


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview, int, int]]:
    """Kind and content of each box, and where it starts and stops."""
    position = parts = 0
    while position + 8 <= len(data):
        fields = _Fields(data[position : position + 16])
        size, kind = fields.number(4), bytes(fields.take(4))
        if size == 1:
            size = fields.number(8)
        elif size == 0:
            size = len(data) - position
        parts += 1
        if parts > MAX_PARTS:
            raise ImageError(TOO_MUCH_HEADER)
        if not fields.position <= size <= len(data) - position:
            raise _CutShortError(DAMAGED)
        stop = position + size
        yield kind, data[position + fields.position : stop], position, stop
        position = stop


def _read_items(file: memoryview, meta: memoryview) -> tuple[int, dict[int, _Item]]:
    """The number of the primary item, and all items."""
    parts = {kind: content for kind, content, *_ in _boxes(meta[4:])}
    try:
        pitm, iinf, iloc = (_Fields(parts[kind]) for kind in (b"pitm", b"iinf", b"iloc"))
        properties = {kind: content for kind, content, *_ in _boxes(parts[b"iprp"])}
        ipco, ipma = [box[:2] for box in _boxes(properties[b"ipco"])], _Fields(properties[b"ipma"])
        iinf.count(2 if iinf.number(4) < 1 << 24 else 4)
        items = dict(_read_infe(content) for kind, content, *_ in _boxes(iinf.data[iinf.position :]) if kind == b"infe")
        _read_locations(iloc, items, file, parts.get(b"idat", memoryview(b"")))
        _read_properties(ipma, items, ipco)
        if b"iref" in parts:
            _read_references(parts[b"iref"], items)
        primary = pitm.number(2 if pitm.number(4) < 1 << 24 else 4)
        items[primary]
    except (KeyError, IndexError):
        raise ImageError(DAMAGED) from None
    return primary, items


def _read_infe(content: memoryview) -> tuple[int, _Item]:
    fields = _Fields(content)
    number = fields.number(4 if fields.number(4) >> 24 > 2 else 2)
    fields.take(2)
    return number, _Item(bytes(fields.take(4)))


def _read_locations(iloc: _Fields, items: dict[int, _Item], file: memoryview, idat: memoryview) -> None:
    version = iloc.number(4) >> 24
    sizes = iloc.number(2)
    offset_size, length_size, base_size, index_size = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    for _ in range(iloc.count(4 if version > 1 else 2)):
        item = items.get(iloc.number(4 if version > 1 else 2), _Item(b""))
        where = idat if version and iloc.number(2) & 15 == 1 else file
        iloc.take(2)
        base = iloc.number(base_size)
        for _ in range(iloc.count(2)):
            iloc.take(index_size if version else 0)
            start = base + iloc.number(offset_size)
            length = iloc.number(length_size) or max(len(where) - start, 0)
            item.data.append(where[start : start + length])
            item.cut_short |= start + length > len(where)


def _read_properties(ipma: _Fields, items: dict[int, _Item], ipco: list[tuple[bytes, memoryview]]) -> None:
    flags = ipma.number(4)
    wide = 2 if flags & 1 else 1
    for _ in range(ipma.count(4)):
        item = items.get(ipma.number(2 if flags < 1 << 24 else 4), _Item(b""))
        for _ in range(ipma.number(1)):
            index = ipma.number(wide) & (1 << 8 * wide - 1) - 1  # without the bit that says "essential"
            if index:
                item.properties.setdefault(*ipco[index - 1])


def _read_references(iref: memoryview, items: dict[int, _Item]) -> None:
    size = 2 if _Fields(iref).number(4) < 1 << 24 else 4
    for kind, content, *_ in _boxes(iref[4:]):
        fields = _Fields(content)
        source = fields.number(size)
        targets = [fields.number(size) for _ in range(fields.count(2))]
        if kind == b"dimg":
            items[source].made_of += targets
        elif kind == b"auxl":  # a mask says whose it is
            for target in targets:
                items[target].made_of.append(source)


def _cost(number: int, items: dict[int, _Item], costs: dict[int, int], depth: int = 0) -> int:
    """Pixels that a decoder computes for an item, whatever it is made of; an item made of itself is refused, too."""
    if number not in items or depth > 8:
        raise ImageError(DAMAGED)
    if number not in costs:
        item = items[number]
        cost = sum(_cost(other, items, costs, depth + 1) for other in item.made_of)
        is_free = item.kind in DERIVED and item.kind != b"iovl"
        costs[number] = cost if is_free else cost + _pixels(item) * _frames(item)
    return costs[number]


def _pixels(item: _Item) -> int:
    if b"ispe" not in item.properties:
        return 0
    size = _Fields(item.properties[b"ispe"])
    size.take(4)
    return size.number(4) * size.number(4)


def _is_of_other_size(item: _Item) -> bool:
    """Whether the data of an overlay give another size than its properties: the decoder would take its memory first."""
    if item.kind != b"iovl":
        return False
    data = _Fields(memoryview(b"".join(item.data)))
    size = 4 if data.number(2) & 1 else 2
    data.take(8)  # the colour beside the layers
    return data.number(size) * data.number(size) != _pixels(item)


def _is_cropped(item: _Item) -> bool:
    """Whether the part to be shown (`clap`: two fractions, and the place) is smaller than the image; Pillow shows all."""
    if not {b"clap", b"ispe"} <= item.properties.keys():
        return False
    part, size = _Fields(item.properties[b"clap"]), _Fields(item.properties[b"ispe"])
    size.take(4)
    return any(part.number(4) != size.number(4) * part.number(4) for _ in range(2))


def _frames(item: _Item) -> int:
    """How many frames an item has: one, but for hostile files. Notes whether its data are cut short."""
    if sum(map(len, item.data)) > MAX_BYTES:
        raise ImageError(DAMAGED)
    stream = _Fields(memoryview(b"".join(item.data)))
    setting = item.properties.get(b"hvcC", b"")
    if item.kind == b"av01":
        units = _av1_units(stream)
    elif item.kind == b"hvc1" and len(setting) > 21:
        units = _hevc_units(stream, (setting[21] & 3) + 1)
    else:
        return 1
    frames = parts = 0
    try:
        for starts_a_frame in units:
            frames += starts_a_frame
            parts += 1
            if parts > 10 * MAX_PARTS:
                raise ImageError(TOO_MUCH_HEADER)
    except _CutShortError:
        item.cut_short = True
    return max(frames, 1)


def _hevc_units(stream: _Fields, length_size: int) -> Iterator[bool]:
    """For each NAL unit: a slice has a type below 32 and, if it starts a frame, the first bit of its header set."""
    while stream.position < len(stream.data):
        unit = bytes(stream.take(stream.number(length_size)))
        if b"\0\0\0" in unit:  # which no unit has (H.265, 7.4.2.1); the decoder would show grey
            raise _CutShortError(DAMAGED)
        yield len(unit) > 2 and unit[0] >> 1 < 32 and unit[2] >> 7 == 1


def _av1_units(stream: _Fields) -> Iterator[bool]:
    """For each OBU: types 3 and 6 are a frame's header, alone or with the frame."""
    while stream.position < len(stream.data):
        head = stream.number(1)
        stream.take(head >> 2 & 1)
        stream.take(_leb128(stream) if head & 2 else len(stream.data) - stream.position)
        yield head >> 3 & 15 in (3, 6)


def _leb128(stream: _Fields) -> int:
    value = 0
    for place in range(8):
        byte = stream.number(1)
        value |= (byte & 127) << 7 * place
        if byte < 128:
            break
    return value


def _codec(number: int, items: dict[int, _Item]) -> bytes:
    """The codec of an item, or of the first that it is made of."""
    item = items[number]
    return _codec(item.made_of[0], items) if item.kind in DERIVED and item.made_of else item.kind
