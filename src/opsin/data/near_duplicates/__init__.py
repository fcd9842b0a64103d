"""Near duplicates: the same image cropped, resized, mirrored or recoded.

Found in three steps, each on far fewer pairs than the one before:

1. **Descriptors.** The low frequencies of each image's brightness (8×8 of its discrete cosine
   transform, as in the perceptual hash pHash) and of its colour (3×3), scaled to length 1. Ten
   crops of each image, and their mirror images, ask for the whole images they look like; a
   few random-projection trees answer (Dasgupta and Freund, STOC 2008), so that the cost grows as
   n log n.
2. **Alignment.** A Gauss-Newton step or four bring one image of a candidate pair onto the other:
   place, scale, brightness and contrast (Lucas and Kanade, IJCAI 1981).
3. **Comparison.** Correlation of what lies between coarse shape and noise. How much is enough
   depends on the collection: all trousers of Fashion-MNIST correlate at 0.95. So a pair must stand
   out from what its images have in common with others, drawn at random, as in Lowe's ratio test
   (IJCV 2004). Larger images have to pass once more, at twice the size.
"""
