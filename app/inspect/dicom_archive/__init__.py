"""Images from the DICOM archive that whoever runs the server has named."""
