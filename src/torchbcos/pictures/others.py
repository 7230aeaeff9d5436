"""What a file is that is no picture of a known kind: other formats, and what stands in a picture's place."""

from __future__ import annotations

from torchbcos._core.foreign import LFS_POINTER

__all__ = ["name_other"]

_BRANDS = {
    b"avif": "an AVIF picture", b"avis": "an AVIF picture", b"heic": "a HEIC picture", b"heix": "a HEIC picture",
    b"mif1": "a HEIF picture", b"msf1": "a HEIF picture", b"jxl ": "a JPEG XL picture", b"crx ": "a camera's raw picture",
}  # fmt: skip
_INSTEAD = (
    # stand-ins: the picture itself is elsewhere
    (LFS_POINTER, "a Git LFS pointer, not the picture itself (fetch it: git lfs pull)"),
    (b"/annex/objects/", "a git-annex pointer, not the picture itself (fetch it: git annex get)"),
    (b"\x00\x05\x16\x07", "macOS's notes about another file (its name begins with '._'), not the picture itself"),
    (b"bplist00", "an Apple property list (a picture that is still in iCloud?)"),
    (b"[InternetShortcut]", "a link to a web address, not the picture itself"),
    (b"L\0\0\0\x01\x14\x02\0", "a Windows shortcut, not the picture itself"),
    (b"data:image/", "a picture written as text (a data: address): decode its base64 first"),
    (b"/9j/", "text that looks like a JPEG in base64: decode it first"),
    (b"iVBORw0KGgo", "text that looks like a PNG in base64: decode it first"),
    # pictures of other formats
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"\x00\x00\x02\x00", "a cursor"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJX", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 picture"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (b"II\xbc", "a JPEG XR picture"),
    (b"\x8bJNG\r\n", "a JNG picture"),
    (b"\x8aMNG\r\n", "an MNG animation"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture"),
    (b"IIU\0", "a camera's raw picture"),
    (b"IIRO", "a camera's raw picture"),
    (b"icns", "an icon"),
    (b"\x01\xda", "an SGI picture"),
    (b"\x59\xa6\x6a\x95", "a Sun raster picture"),
    (b"gimp xcf", "a GIMP document"),
    (b"DDS ", "a DDS texture"),
    (b"qoif", "a QOI picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"SIMPLE  =", "a FITS picture"),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing"),
    (b"%!PS", "a PostScript drawing"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript drawing"),
    # everything else that lies among pictures
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\xd0\xcf\x11\xe0", "an Office document"),
    (b"\x1a\x45\xdf\xa3", "a film"),
)  # fmt: skip
_SECTIONS = {b"WAVE": "a sound", b"AVI ": "a film"}
_MARKUP = "HTML or XML text (an error page saved under this name?)"


def name_other(head: bytes) -> str:
    """What bytes that are no readable picture look like: 'a PDF document', 'HTML text', 'unknown data', …

    >>> name_other(b"version https://git-lfs.github.com/spec/v1")
    'a Git LFS pointer, not the picture itself (fetch it: git lfs pull)'
    """
    if not head:
        return "nothing (0 bytes)"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "a film or a HEIF picture")
    if head[:4] == b"RIFF":
        return _SECTIONS.get(head[8:12], "unknown data")
    if head[128:132] == b"DICM":
        return "a DICOM picture (call it .dcm; reading it needs pydicom: in a clone of torchbcos, pip install '.[medical]')"
    for start, what in _INSTEAD:
        if head.startswith(start):
            return what
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[:1] == b"P" and head[1:2] in b"1234567Ff" and head[2:3].isspace():
        return "a Netpbm picture"
    return "zero bytes only (a copy or download that failed?)" if not any(head) else _name_text(head)


def _name_text(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "text"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"<svg"):
        return "an SVG drawing"
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<")):
        return "an SVG drawing" if b"<svg" in text else _MARKUP
    if b"/annex/objects/" in text and text.count(b"\n") <= 1:  # an annexed link that was written out as a file
        return dict(_INSTEAD)[b"/annex/objects/"]
    letters = head.decode(errors="ignore")  # what is left out may be the last letter, cut in two
    if len(letters.encode()) < len(head) - 3 or not all(char.isprintable() or char in "\t\r\n" for char in letters):
        return "unknown data"
    return "JSON text (an error message saved under this name?)" if text[:1] in (b"{", b"[") else "text"
