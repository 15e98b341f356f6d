"""The two models of a service: the champion answers, the challenger answers whoever asks for it."""

from typing import Literal

Role = Literal["champion", "challenger"]
CHAMPION: Role = "champion"
CHALLENGER: Role = "challenger"
