variable "region" {
  description = "AWS region"
  type        = string
}

variable "name" {
  description = "of the task family, the service and the roles"
  type        = string
  default     = "app"
}

variable "cluster" {
  description = "name of the ECS cluster, in this account and region"
  type        = string

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]+$", var.cluster))
    error_message = "Write the cluster's name, not its ARN."
  }
}

variable "subnets" {
  description = "subnets with a way to ECR, SSM, CloudWatch Logs and Snowflake"
  type        = list(string)
}

variable "security_groups" {
  description = "they have to let HTTPS out; nothing comes in"
  type        = list(string)
}

variable "assign_public_ip" {
  description = "true in public subnets without NAT or endpoints"
  type        = bool
  default     = false
}

variable "sidecar_repository" {
  description = "ECR repository of the sidecar's image, in this account and region"
  type        = string
  default     = "snowkey-sidecar"
}

variable "sidecar_digest" {
  description = "digest of the sidecar's image; a tag could change under a running service"
  type        = string

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", var.sidecar_digest))
    error_message = "Write the digest as sha256: and 64 hexadecimal digits."
  }
}

variable "app_repository" {
  description = "ECR repository of the application's image, in this account and region"
  type        = string
  default     = "app"
}

variable "app_digest" {
  description = "digest of the application's image"
  type        = string

  validation {
    condition     = can(regex("^sha256:[0-9a-f]{64}$", var.app_digest))
    error_message = "Write the digest as sha256: and 64 hexadecimal digits."
  }
}

variable "key_parameter" {
  description = "parameter with the encrypted key"
  type        = string
  default     = "/app/key"
}

variable "passphrase_parameter" {
  description = "parameter with its passphrase"
  type        = string
  default     = "/app/passphrase"
}

variable "key_storage" {
  description = "where the unencrypted key is: in files on the task's ephemeral storage (disk), or in the sidecar's memory alone (memory); with memory the application has to read a socket, as the Go helper does"
  type        = string
  default     = "disk"

  validation {
    condition     = contains(["disk", "memory"], var.key_storage)
    error_message = "Write disk or memory."
  }
}

variable "snowflake_account" {
  description = "account identifier, ORGANIZATION-NAME"
  type        = string
}

variable "snowflake_user" {
  description = "the user whose key this is"
  type        = string
}

variable "snowflake_role" {
  description = "role with which the rotation gives the user a key; the user's default role if empty"
  type        = string
  default     = ""
}

variable "desired_count" {
  description = "how many tasks; 0 until both parameters exist"
  type        = number
  default     = 0
}

variable "alarm_topic" {
  description = "ARN of the SNS topic that is notified of the alarms; none if empty"
  type        = string
  default     = ""
}

variable "refresh_max_minutes" {
  description = "alarm when a refresh of a task that should have succeeded is so many minutes late; at least 15"
  type        = number
  default     = 15
}

variable "key_max_age_days" {
  description = "alarm when the key was stored so many days ago"
  type        = number
  default     = 90
}

variable "rotate_after_days" {
  description = "make a new key when the one in use is so many days old; 0 for no rotation by schedule"
  type        = number
  default     = 0
}
