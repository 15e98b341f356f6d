"""The service by HTTP: its addresses, who may ask, and the way of a request from its body to its answer."""
