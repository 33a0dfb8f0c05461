"""Questions about the image on show: asked, answered word by word, cancelled; those of the examples beforehand."""
