"""Acceleration of the searches of a run: what the clock chose, which the run keeps."""

from __future__ import annotations

from torch import Tensor

from robcert.accel.batch_size import tune_batch_size
from robcert.accel.layout import LAYOUTS, faster_layout, layout_of
from robcert.accel.precision import PRECISIONS, Lowered, SearchPrecision, search_network
from robcert.accel.stepper import Networks
from robcert.runs.execution import Execution
from robcert.runs.record import Precision
from robcert.runs.store import RunStore
from robcert.types import LoadedModel


class Acceleration:
    """Memory format, precision and batch size of the searches of a run; one that goes on keeps what was found.

    Args:
        sample: (n, *shape), images to measure with, as many as are attacked at once.
        asked: the precision; float32 is the user's way to leave nothing to the clock.
        store: where the run is kept, or None.
        execution: how the run is done.
    """

    def __init__(self, sample: Tensor, asked: SearchPrecision, store: RunStore | None, execution: Execution) -> None:
        self.sample, self.store = sample, store
        self.asked: SearchPrecision = asked
        # Who waits for an early end wants few images at once: those in the slots are searched when it comes.
        self.fixed = execution.batch_size is not None or execution.enough is not None or asked == "float32"

    def networks(self, number: int, model: LoadedModel) -> Networks:
        """Return the network in the faster memory format, and a copy in bfloat16 or None.

        Args:
            number: the position of the model in the run.
            model: the network.
        """
        if self.asked == "float32" or model.no_gradient:
            return Networks(model.module)
        layout_key, precision_key = f"layout {number}", f"search precision {number}"
        known = self._kept(layout_key)
        layout = faster_layout(model.module, self.sample, known if known in LAYOUTS else None)
        chosen = self._kept(precision_key) if self.asked == "auto" else None
        asked = chosen if chosen in PRECISIONS else self.asked
        low = search_network(model.module, self.sample, asked, layout)
        self._keep(layout_key, layout_of(layout))
        self._keep(precision_key, "float32" if low is None else "bfloat16")
        return Networks(layout, low)

    def precision(self, number: int, low: Lowered | None) -> Precision:
        """Return what a model was searched in; of a run that found nothing left to search, what it was before."""
        if low is not None:
            return "bfloat16"
        return "bfloat16" if self._kept(f"search precision {number}") == "bfloat16" else "float32"

    def batch_size(self, number: int, networks: Networks, least: int) -> int:
        """Return the number of images that the legs of a model hold at once, at least ``least``."""
        if self.fixed:
            return least
        key = f"slots {number}"
        known = self._kept(key)
        found = int(known) if known else tune_batch_size(networks.low or networks.exact, self.sample, least)
        self._keep(key, str(found))
        return found

    def _kept(self, key: str) -> str | None:
        return self.store.setting(key, None) if self.store else None

    def _keep(self, key: str, value: str) -> None:
        if self.store:
            self.store.setting(key, value)
