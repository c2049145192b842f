"""What goes wrong in practice, one kind after another. How a kind is written and judged is in `faults.harness`."""
