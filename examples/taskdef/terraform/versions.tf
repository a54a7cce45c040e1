terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # What this was checked against, or newer. Early 5.x drop restartPolicy without a word.
      version = "~> 6.25"
    }
  }
}

provider "aws" {
  region = var.region
}
