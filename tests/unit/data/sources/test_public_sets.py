"""Declarations of public sets are complete and well-formed; only a test with network could check the facts."""

from __future__ import annotations

import re

import pytest

from segpipe.choices import READERS
from segpipe.data.sources.public_sets import find_public_set, public_set_names

each_set = pytest.mark.parametrize("name", public_set_names())


def test_names() -> None:
    asked_for = {"voc2012", "voc2012_sbd", "ade20k", "coco", "coco_stuff", "coco_panoptic", "oxford_pet", "camvid"}
    assert asked_for | {"cityscapes"} == set(public_set_names())
    assert find_public_set("voc2021") is None


@each_set
def test_a_set_has_a_reader_and_its_terms(name: str) -> None:
    public = find_public_set(name)
    assert public is not None
    assert public.name == name
    READERS.check(public.format)
    assert public.licence and public.citation
    assert public.homepage.startswith("http")


@each_set
def test_archives_are_pinned_or_the_note_says_why_not(name: str) -> None:
    public = find_public_set(name)
    assert public is not None
    names = [archive.name for archive in public.archives]
    assert len(set(names)) == len(names)
    for archive in public.archives:
        assert re.fullmatch(r"[\w.-]+\.(zip|tar|tgz|tar\.gz)", archive.name)
        assert archive.sha256 is None or re.fullmatch("[0-9a-f]{64}", archive.sha256)
        assert archive.size_bytes is None or archive.size_bytes > 10**6
        if archive.sha256 is None:
            assert "sha256" in public.note
        if archive.address is not None and archive.sha256 is not None:
            assert archive.address.startswith("https://")
            assert archive.size_bytes is not None


def test_a_file_in_two_sets_is_the_same_file() -> None:
    by_address: dict[str | None, object] = {None: None}
    for name in public_set_names():
        public = find_public_set(name)
        assert public is not None
        for archive in public.archives:
            if archive.address is not None:
                assert by_address.setdefault(archive.address, archive) == archive
