"""Labels as pixels: masks of class indices, of colours and drawn ones, and what is wrong with a mask."""
