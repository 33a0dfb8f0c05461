"""Where each image token lies in the source image, for any image processor."""
