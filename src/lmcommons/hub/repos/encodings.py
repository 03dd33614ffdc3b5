"""The bytes of a file as text."""

import codecs

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(content: bytes, *, whole: bool = True) -> str:
    """Text in UTF-8, or in UTF-16 where its first bytes say so, without the mark that they may be.

    Other encodings are not guessed: most bytes are words in several of them.

    Args:
        whole: it is all of a text; of a beginning, half a character at the end is left out.

    Raises:
        UnicodeDecodeError: it is in another encoding.
    """
    encoding = "utf-16" if content.startswith(UTF_16) else "utf-8-sig"
    return codecs.getincrementaldecoder(encoding)().decode(content, final=whole)
