"""The real parts that tests start: servers, OAuth clients and the person who signs in."""
