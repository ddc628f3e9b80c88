"""What may be told again of a DICOM header: terms of the standard, spacings, a loss in the past.

Convention:
    A value is copied only if it is one of those listed here, so that no text of a header, in
    whatever attribute, gets through.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

COMPUTED_RADIOGRAPHY = "1.2.840.10008.5.1.4.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

# BodyPartExamined, PS3.16 Annex L: first the parts that have no side, for which Laterality shall
# not be there. Of a part that validators do not know as such it may be empty.
_UNPAIRED = """
ABDOMEN ABDOMENPELVIS AORTA BACK BLADDER BRAIN CEREBELLUM CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS
CIRCLEOFWILLIS COCCYX COLON CORONARYARTERY CSPINE CTSPINE DUODENUM ESOPHAGUS FACE GALLBLADDER HEAD
HEADNECK HEART ILEUM ILIUM JAW JEJUNUM LARYNX LIVER LSPINE LSSPINE MAXILLA MEDIASTINUM MOUTH NECK
NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SCALP
SKULL SPINE SPLEEN SSPINE STERNUM STOMACH THYMUS THYROID TLSPINE TONGUE TRACHEA TSPINE URETER
URETHRA UTERUS VAGINA VULVA WHOLEBODY
"""
_OTHERS = """
3RDVENTRICLE 4THVENTRICLE ABDOMINALAORTA ACA ACJOINT ADRENAL AMNIOTICFLUID ANKLE ANTCARDIACV
ANTCOMMA ANTECUBITALV ANTSPINALA ANTTIBIALA ANUS ANUSRECTUMSIGMD AORTICARCH APPENDIX ARM ARTERY
ASCAORTA ASCENDINGCOLON ATLANTOAXIAL ATLANTOOCCIPITAL AXILLA AXILLARYA AXILLARYV AZYGOSVEIN BASILARA
BILEDUCT BILIARYTRACT BLADDERURETHRA BRACHIALA BRACHIALV BREAST BRONCHUS BULB BUTTOCK CALCANEUS CALF
CAROTID CARPUS CCA CELIACA CEPHALICV CEREBHEMISPHERE CEREBRALA CFA CFV CHEEK CHOROIDPLEXUS CLAVICLE
COMILIACA COMILIACV COMMONBILEDUCT CORNEA CORONARYSINUS CULDESAC DESCAORTA DESCENDINGCOLON DIGIT
DISTALPHALANX EAC EAR ECA ELBOW ENDOARTERIAL ENDOCARDIAC ENDOESOPHAGEAL ENDOMETRIUM ENDONASAL
ENDONASOPHARYNYX ENDORECTAL ENDORENAL ENDOURETERIC ENDOURETHRAL ENDOVAGINAL ENDOVASCULAR ENDOVENOUS
ENDOVESICAL EPIDIDYMIS EPIGASTRIC EXTILIACA EXTILIACV EXTJUGV EXTREMITY EYE EYELID FACIALA FEMORALA
FEMORALV FEMUR FETALARM FETALDIGIT FETALHEART FETALLEG FETALPOLE FIBULA FINGER FLANK FONTANEL FOOT
FOREARM FOREFETLOCK FOREFOOT FOREPASTERN FRONTALSINUS GASTRICV GENICULARA GESTSAC GLUTEAL GSV HAND
HEPATICA HEPATICV HINDFETLOCK HINDFOOT HINDPASTERN HIP HUMERUS HYPOGASTRIC HYPOPHARYNX IAC ICA
ILIACA ILIACV INFMESA INFVENACAVA INGUINAL INNOMINATEA INNOMINATEV INTILIACA INTJUGULARV INTMAMMARYA
INTRACRANIAL JOINT KIDNEY KNEE LACRIMALA LARGEINTESTINE LATRIUM LATVENTRICLE LEG LFEMORALA LHEPATICV
LHYPOCHONDRIAC LINGUALA LINGUINAL LLQ LLUMBAR LOWERLEG LOWERLIMB LPORTALV LPULMONARYA LSUPPULMONARYV
LUMBAR LUMBARA LUMEN LUNG LUQ LVENTRICLE MANDIBLE MASTOID MCA MESENTRICA MESENTRICV METACARPUS
METATARSUS MIDHEPATICV MORISONSPOUCH NASOPHARYNX NAVICULAR OCCPITALA OCCIPTALV OPHTHALMICA
OPTICCANAL ORBIT OVARY PANCBILEDUCT PANCREATICDUCT PARASTERNAL PARATHYROID PAROTID PATELLA PCA
PELVISLOWEXTREMT PENILEA PERINEUM PERONEALA PHANTOM PHARYNXLARYNX PLACENTA POPLITEALA POPLITEALFOSSA
POPLITEALV PORTALV POSCOMMA POSTIBIALA PROFFEMA PROFFEMV PULMONARYA PULMONARYV RADIALA RADIUS
RADIUSULNA RATRIUM RENALA RENALV RETROPERITONEUM RFEMORALA RHEPATICV RHYPOCHONDRIAC RIB RINGUINAL
RLQ RLUMBAR RPORTALV RPULMONARYA RSUPPULMONARYV RUQ RVENTRICLE SAPHENOUSV SCAPULA SCJOINT SCLERA
SCROTUM SELLA SEMVESICLE SESAMOID SFA SFJ SFV SHOULDER SIGMOID SIJOINT SMA SMALLINTESTINE SPINALCORD
SPLENICA SPLENICV STIFLE SUBCLAVIANA SUBCLAVIANV SUBCOSTAL SUBMANDIBULAR SUPRACLAVICULAR SUPRAPUBIC
SUPTHYROIDA SVC TAIL TARSUS TESTIS THALAMUS THIGH THORACICAORTA THORAX THUMB TIBIA TIBIAFIBULA TMJ
TOE TRACHEABRONCHUS TRANSVERSECOLON UGITRACT ULNA ULNARA UMBILICAL UMBILICALA UMBILICALV UPPERARM
UPPERLIMB UPRURINARYTRACT URINARYTRACT VEIN VERTEBRALA WING WRIST ZYGOMA
"""
_WITHOUT_SIDE = frozenset(_UNPAIRED.split())
BODY_PARTS = _WITHOUT_SIDE.union(_OTHERS.split())

# ViewPosition, and the codes of ViewCodeSequence (SNOMED CT, and SNOMED RT which went before) that
# say the same: PS3.3 C.8.1.1 and PS3.16 CID 4010, and for the breast CID 4014.
VIEWS = {
    "AP": ("399348003", "R-10206"),
    "PA": ("272479007", "R-10214", "R-40888"),
    "LL": ("399173006", "R-10236"),
    "RL": ("399198007", "R-10232"),
    **dict.fromkeys(("LLD", "RLD", "LLO", "RLO"), ()),
    "LATERAL": ("399067008", "R-102CD"),
    "LAO": ("399135007", "R-10220"),
    "RAO": ("399356000", "R-40985"),
    "LPO": ("399006002", "R-10212"),
    "RPO": ("399038007", "R-10210"),
    "CC": ("399162004", "R-10242"),
    "FB": ("399196006", "R-10244"),
    "ML": ("399260004", "R-10224"),
    "MLO": ("399368009", "R-10226"),
    "LM": ("399352003", "R-10228"),
    "LMO": ("399099002", "R-10230"),
    "SIO": ("399188001", "R-102D0"),
    "ISO": ("441555000", "R-40AAA"),
    "XCCL": ("399192008", "R-1024A"),
    "XCCM": ("399101009", "R-1024B"),
}
_TERMS = {
    "Modality": {
        *("BMD", "CR", "CT", "DX", "IO", "MG", "MR", "NM", "PT", "PX", "RF", "RG", "US", "XA"),
        "RTIMAGE",
    },
    "BodyPartExamined": BODY_PARTS,
    "ViewPosition": set(VIEWS),
    "ImageLaterality": {"R", "L", "U", "B"},
    "BurnedInAnnotation": {"YES", "NO"},
}
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")

# LossyImageCompressionMethod, PS3.3 C.7.6.1.1.5.1
_METHODS = {
    *("ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_2", "ISO_15444_15"),
    *("ISO_18181_1", "ISO_13818_2", "ISO_14496_10", "ISO_23008_2"),
}
# Of the encapsulated transfer syntaxes those that lose nothing: bare, RLE, deflated, JPEG's
# lossless processes, JPEG-LS, JPEG 2000, High-Throughput JPEG 2000, JPEG XL
_LOSSLESS = {
    f"1.2.840.10008.1.2.{end}"
    for end in (
        *("1.98", "5", "8.1", "4.57", "4.58", "4.65", "4.66", "4.70"),
        *("4.80", "4.90", "4.92", "4.201", "4.202", "4.110"),
    )
}


def harmless(dataset: Any) -> dict[str, Any]:
    """What of a header is copied into a derived file, by value as well as by tag.

    Laterality, of paired parts, is there only where ImageLaterality is not, and empty where the
    side is not known. LossyImageCompression is "01" where the header or the transfer syntax says
    so: once lossy, always lossy. A transfer syntax that may be lossless or not, as JPEG 2000's,
    counts as lossy unless the header says "00" and the codestream is a reversible one.

    Args:
      dataset: pydicom's, of the original.

    Returns:
      The new values by their keywords, SOP class and modality always among them.

    Example:
      >>> from pydicom import Dataset
      >>> header = Dataset()
      >>> header.BodyPartExamined, header.Laterality = "KNEE", "L"
      >>> header.StudyDescription, header.ViewPosition = "Jane's knee", "JANE"
      >>> kept = harmless(header)
      >>> [kept[tag] for tag in ("BodyPartExamined", "Laterality")], "ViewPosition" in kept
      (['KNEE', 'L'], False)

    Reference: DICOM PS3.3, C.7.3.1 and C.7.6.1; PS3.16, Annex L and CID 4014.
    """
    tags: dict[str, Any] = {"Modality": "OT", "SOPClassUID": SECONDARY_CAPTURE}
    for tag, terms in _TERMS.items():
        if (value := _word(dataset.get(tag))) in terms:
            tags[tag] = value
    if "ViewPosition" not in tags:
        tags |= _coded_view(dataset)
    part = tags.get("BodyPartExamined")
    if "ImageLaterality" not in tags and part not in _WITHOUT_SIDE:
        side = _word(dataset.get("Laterality"))
        tags["Laterality"] = side if side in ("R", "L") else ""
    tags |= {tag: spacing for tag in _SPACINGS if len(spacing := _decimals(dataset, tag)) == 2}
    if dataset.get("SOPClassUID") == COMPUTED_RADIOGRAPHY:
        tags["SOPClassUID"] = COMPUTED_RADIOGRAPHY
    if "FrameOfReferenceUID" in dataset:
        tags["FrameOfReferenceUID"] = ""  # a new one is made
    return tags | _losses(dataset)


def _word(value: Any) -> str:
    return str(value).strip().upper()


def _values(dataset: Any, tag: str) -> Sequence[Any]:
    """What is under a tag as a sequence, whether one value, several or none."""
    value = dataset.get(tag)
    if value is None or value == "":
        return ()
    return value if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _decimals(dataset: Any, tag: str) -> list[Any]:
    """Positive numbers as they are written into a header, or none."""
    decimal = importlib.import_module("pydicom.valuerep").DSfloat
    try:
        numbers = np.asarray(_values(dataset, tag), np.float64)
    except (TypeError, ValueError):  # no numbers
        return []
    if not ((numbers > 0) & np.isfinite(numbers)).all():
        return []
    return [decimal(number, auto_format=True) for number in numbers.tolist()]


def _codes(dataset: Any, tag: str) -> list[str]:
    return [str(item.get("CodeValue")) for item in _values(dataset, tag)]


def _coded_view(dataset: Any) -> dict[str, str]:
    """The view where only its code is given."""
    found = _codes(dataset, "ViewCodeSequence")[:1]
    views = [view for view, codes in VIEWS.items() if set(codes) & set(found)]
    return {"ViewPosition": views[0]} if views else {}


def _losses(dataset: Any) -> dict[str, Any]:
    """Whether the pixels ever were compressed lossily; how, as far as the header tells it."""
    said = {_word(value) for value in _values(dataset, "LossyImageCompression")}
    methods = [_word(method) for method in _values(dataset, "LossyImageCompressionMethod")]
    ratios = _decimals(dataset, "LossyImageCompressionRatio")
    lossless = said == {"00"}
    lossy = (
        "01" in said
        or bool(methods or ratios) > lossless
        or "113040" in _codes(dataset, "DerivationCodeSequence")  # lossy compression, CID 7203
        or _is_lossy(dataset, said_lossless=lossless)
    )
    if not lossy:
        return {"LossyImageCompression": "00"} if lossless else {}
    tags: dict[str, Any] = {"LossyImageCompression": "01"}
    if methods and set(methods) <= _METHODS and len(methods) == len(ratios):
        tags["LossyImageCompressionMethod"] = methods
        tags["LossyImageCompressionRatio"] = ratios
    return tags


def _is_lossy(dataset: Any, *, said_lossless: bool) -> bool:
    """Whether the transfer syntax says that what it holds is not exact, or leaves it open."""
    syntax = (getattr(dataset, "file_meta", None) or {}).get("TransferSyntaxUID")
    if not syntax or not syntax.is_transfer_syntax or not syntax.is_compressed:
        return False
    return syntax not in _LOSSLESS and not (said_lossless and _is_reversible(dataset.PixelData))


def _is_reversible(pixels: bytes) -> bool:
    """Whether a codestream is JPEG-LS of NEAR = 0, or JPEG 2000 with the 5-3 wavelet."""
    frame = importlib.import_module("pydicom.encaps").get_frame(pixels, 0, number_of_frames=1)
    at = 2  # behind the first marker, which stands alone; the others have a length
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        if frame[at + 1] == 0xDA and b"\xff\xf7" in frame[:at]:  # SOS, after JPEG-LS's SOF55
            return frame[at + 5 + 2 * frame[at + 4]] == 0
        if frame[at + 1] == 0x52:  # COD
            return frame[at + 13] == 1
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return False
