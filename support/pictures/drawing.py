"""When a run's curves are drawn: now and then while it trains, and where it ends."""

import time

from support.pictures import comparison, curves
from support.run.command_line import suffix
from support.run.record import Record

SECONDS_BETWEEN_DRAWINGS = 30  # where epochs are shorter


class Drawing:
    """Draws a run's curves and the comparison of the runs in its folder.

    Used as a context: on leaving, also with --look and by Ctrl-C, it draws them where they are behind.
    """

    def __init__(self, record: Record):
        self.record = record
        self.drawn, self.next_drawing = 0, 0.0  # epochs that the curves show; when they may be drawn again

    def __enter__(self) -> "Drawing":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _) -> None:
        behind = self.drawn < len(self.record.history)
        if behind and not isinstance(error, OSError):  # on a full disk drawing would fail as well
            self.draw()

    def after_epoch(self) -> None:
        if time.monotonic() > self.next_drawing or len(self.record.history) == self.record.epochs:
            self.draw()

    def draw(self) -> None:
        record = self.record
        self.drawn, self.next_drawing = len(record.history), time.monotonic() + SECONDS_BETWEEN_DRAWINGS
        curves.plot_run(record.csv.with_suffix(".png"), record.csv, record.history, record.epochs, record.facts)
        path = record.csv.with_name(f"comparison{suffix(record.options.data)}.png")
        comparison.plot_comparison(path, comparison.read_folder(path.parent, record.facts), record.data.name)
