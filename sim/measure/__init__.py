"""What is measured: the causes of time, the classes of bytes, and metrics made from them."""
