"""Files that are made to harm whoever reads them: small, and far from ever being decoded."""

from __future__ import annotations

import io
import struct
import zipfile

import pyarrow
import pyarrow.parquet

_SIDE = 8000
_BLOCKS = (_SIDE // 8) ** 2


def endless_jpeg(scans: int = 30_000) -> bytes:
    """A progressive JPEG of 64 megapixels whose scans each say, in about 100 bytes, that nothing changes anywhere:
    every one of them is a walk over a million blocks. A fast machine decodes 3,000 of them in 13 s."""
    # The one Huffman code, a single 0 bit, means an end of band over 2**14 blocks and as many more as 14 bits say
    # (ISO/IEC 10918-1 G.1.2.2).
    extra = 0b01010101010101
    runs = -(-_BLOCKS // ((1 << 14) + extra))
    bits = f"0{extra:014b}" * runs
    coded = int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8), "big")
    scan = _segment(0xDA, bytes((1, 1, 0, 1, 63, 0))) + coded.replace(b"\xff", b"\xff\x00")
    return (
        b"\xff\xd8"
        + _segment(0xDB, bytes(1) + bytes([1] * 64))
        + _segment(0xC2, struct.pack(">BHHB3B", 8, _SIDE, _SIDE, 1, 1, 0x11, 0))
        + _segment(0xC4, bytes([0x10, 1, *[0] * 15, 0xE0]))
        + scan * scans
        + b"\xff\xd9"
    )


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def excel_bomb(megabytes: int) -> bytes:
    """A workbook of some hundred kilobytes whose texts unpack to millions of Python strings."""
    names = ("sheet1.xml", "sharedStrings.xml")
    parts = "".join(
        f'<Override PartName="/xl/{where}{name}" ContentType="application/vnd.openxmlformats-officedocument.'
        f'spreadsheetml.{kind}+xml"/>'
        for where, name, kind in (
            ("", "workbook.xml", "sheet.main"), ("worksheets/", names[0], "worksheet"), ("", names[1], "sharedStrings"),
        )
    )  # fmt: skip
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'

    def links(*targets: tuple[str, str]) -> str:
        inner = "".join(
            f'<Relationship Id="r{number}" Type="{relations}/{kind}" Target="{target}"/>'
            for number, (kind, target) in enumerate(targets)
        )
        return f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{inner}</Relationships>'

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">{parts}</Types>',
        )
        archive.writestr("_rels/.rels", links(("officeDocument", "xl/workbook.xml")))
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook {space} xmlns:r="{relations}"><sheets><sheet name="a" sheetId="1" r:id="r0"/></sheets>'
            "</workbook>",
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            links(("worksheet", f"worksheets/{names[0]}"), ("sharedStrings", names[1])),
        )
        archive.writestr(f"xl/worksheets/{names[0]}", f"<worksheet {space}><sheetData/></worksheet>")
        with archive.open(f"xl/{names[1]}", "w") as stream:
            stream.write(f"<sst {space}>".encode())
            for _ in range(megabytes):
                stream.write(b"<si><t>x</t></si>" * ((1 << 20) // 17))
            stream.write(b"</sst>")
    return packed.getvalue()


def parquet_bomb(megabytes: int) -> bytes:
    """A Parquet file of some kilobytes with one text that unpacks to hundreds of megabytes."""
    table = pyarrow.table({"image": ["x" * (megabytes << 20)], "question": ["a"], "answer": ["b"]})
    written = io.BytesIO()
    pyarrow.parquet.write_table(table, written, compression="zstd", use_dictionary=False, write_statistics=False)
    return written.getvalue()


def packed(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A ZIP archive."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()
