"""Pictures and charts that pages hold."""
