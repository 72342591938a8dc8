"""Contestants in processes of their own that take turns: how they are installed, asked, compared and reported."""
