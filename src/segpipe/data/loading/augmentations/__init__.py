"""One file an augmentation, each with a function `build_transform`.

    build_transform(*, OPTION=DEFAULT, ...) -> Transform

The transform gets a sample that is cropped already and changes it in place (`segpipe.data.loading.transform`). All that
it draws comes from the sample's generator. How often it is applied is the caller's business
(`segpipe.data.loading.augment`): `probability` in `params.yaml`.

Each option carries its type and bounds, which are checked when `params.yaml` is loaded. So building imports no library
that takes long; what can be found out only by working is found by the rehearsal before a training.
"""
