"""HTML pages and pictures: the data, the network's predictions and scores, the registered versions."""
