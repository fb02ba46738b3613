"""How byte-level BPE writes bytes as characters."""

__all__ = ["BYTE_OF_MARK", "MARK_OF_BYTE"]


def _byte_marks() -> dict[str, int]:
    # Byte-level BPE writes printable bytes as themselves, and the others, in order, as
    # the characters from U+0100 on (Radford et al. 2019, the GPT-2 encoder).
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    marks = {chr(byte): byte for byte in printable}
    return marks | {chr(256 + at): byte for at, byte in enumerate(others)}


BYTE_OF_MARK = _byte_marks()
MARK_OF_BYTE = {byte: mark for mark, byte in BYTE_OF_MARK.items()}
