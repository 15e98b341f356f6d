"""What a source holds: its class table and its pairs of image and label, of one source or of several."""
