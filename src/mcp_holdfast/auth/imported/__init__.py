"""What another server left: its registrations and sessions, in the form of our own."""
