"""DICOMweb servers: studies, series and images are looked for, fetched and stored."""
