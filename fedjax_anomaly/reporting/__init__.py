"""What a run shows: metrics per round, figures, a report page, and lines on the terminal."""
