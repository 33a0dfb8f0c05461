"""What a server keeps of its visitors beyond their visit, encrypted."""
