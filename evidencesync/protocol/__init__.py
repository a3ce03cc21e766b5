"""What the two ends say to each other: messages, frames and compression. Bytes in, values out."""
