"""Certificates by interval bound propagation (Gowal et al. 2018), the last layer fused with the margins."""

from __future__ import annotations

from torch import Tensor

from robcert.certificates import Certificates, Search, certificate
from robcert.certificates.crown import certified
from robcert.certificates.trials import TrialsEvidence
from robcert.types import BoundNorm, LoadedModel


@certificate("ibp", evidence=TrialsEvidence, cost=2)
def certify_ibp(
    model: LoadedModel, x: Tensor, y: Tensor, norm: BoundNorm, search: Search | None = None
) -> Certificates:
    """Intervals of all values: cheap, and tight for networks that were trained for it.

    An l1 or l2 ball enters through the first layer, by the dual norm of its rows; from there on intervals are all that
    is known.
    """
    return certified("ibp", model, x, y, norm, search, "ibp")
