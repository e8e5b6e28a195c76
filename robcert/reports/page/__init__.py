"""One page of HTML that holds everything and needs nothing: no network, no script."""
