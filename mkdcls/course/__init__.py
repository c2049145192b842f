"The course: checks, dials and players of its lessons, and what makes student files, slides and marks of them"
from mkdcls.course.checking import check
from mkdcls.course.show import dial, draw_arrows, play, record

__all__ = ["check", "dial", "draw_arrows", "play", "record"]
