"""One file an augmentation, each with a function `build_transform`.

    build_transform(*, OPTION=DEFAULT, ...) -> Transform

The transform gets a sample that is cropped already and changes it in place (`segpipe.data.loading.transform`). All that
it draws comes from the sample's generator. The caller decides how often it is applied
(`segpipe.data.loading.augment`): `probability` in `params.yaml`.

Each option has its type and bounds, which are checked when `params.yaml` is loaded. So building imports no slow
library; errors that appear only in use are found by the rehearsal before a training.
"""
