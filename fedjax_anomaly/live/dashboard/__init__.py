"""One page that shows a running detector: what it keeps (`board`), who serves it (`sink`), and the page itself."""
