"""What a person is told of versions: the card, the comparison of two, the origin of one."""
