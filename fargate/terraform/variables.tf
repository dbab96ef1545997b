variable "name" {
  description = "What everything is called"
  type        = string
  default     = "holdfast"
}

variable "host" {
  description = "The public host name of the MCP server"
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$", var.host))
    error_message = "Give a host name in lower case, such as mcp.example.com."
  }
}

variable "hosted_zone_id" {
  description = "The Route 53 zone to put the host name into; without one, let the host name lead to load_balancer_host"
  type        = string
  default     = null
}

variable "certificate_arn" {
  description = "The certificate for the host name, in this region"
  type        = string
}

variable "vpc_id" {
  type = string
}

variable "load_balancer_subnet_ids" {
  description = "Public subnets in two availability zones or more"
  type        = set(string)

  validation {
    condition     = length(var.load_balancer_subnet_ids) >= 2
    error_message = "A load balancer needs subnets in two availability zones."
  }
}

variable "task_subnet_ids" {
  description = "One subnet in each availability zone for the tasks and the volume; private with a NAT gateway, or public"
  type        = set(string)

  validation {
    condition     = length(var.task_subnet_ids) >= 2
    error_message = "Give subnets in two availability zones, so that one of them may fail."
  }
}

variable "assign_public_ip" {
  description = "True where the subnets of the tasks have no NAT gateway; only the load balancer gets in either way"
  type        = bool
  default     = false
}

variable "clients" {
  description = "Who may reach the load balancer; Claude and ChatGPT connect from the internet"
  type        = string
  default     = "0.0.0.0/0"
}

variable "repository" {
  description = "The ECR repository of the image, in this account and region"
  type        = string
  default     = "holdfast"
}

variable "tag" {
  description = "The tag of the image"
  type        = string
  default     = "0.1.0"

  validation {
    condition     = var.tag != "latest"
    error_message = "Name a tag other than latest, which could not be rolled back to."
  }
}

variable "cpu_architecture" {
  type    = string
  default = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "Give X86_64 or ARM64, as the image was built."
  }
}

variable "cpu" {
  description = "CPU units, of which 1024 are a CPU"
  type        = number
  default     = 512
}

variable "memory" {
  description = "MiB; Fargate wants two to eight times the CPU units"
  type        = number
  default     = 1024
}

variable "settings" {
  description = "Further environment variables"
  type        = map(string)
  default     = {}
}

variable "secrets" {
  description = "Further variables, each with the ARN of a secret that is one string"
  type        = map(string)
  default     = {}
}

variable "payload_port" {
  description = "Where what is served connects to, besides https"
  type        = number
  default     = 8563
}

variable "payload_network" {
  type    = string
  default = "0.0.0.0/0"
}

variable "previous_keys" {
  description = "Of which keys the version before is still accepted, while one is changed: storage, signing"
  type        = set(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.previous_keys, ["storage", "signing"])) == 0
    error_message = "There are two keys: storage and signing."
  }
}

variable "storage" {
  type    = string
  default = "efs"

  validation {
    condition     = contains(["efs", "dynamodb"], var.storage)
    error_message = "Give efs or dynamodb."
  }
}

variable "throughput_mode" {
  description = "Of the file system"
  type        = string
  default     = "elastic"

  validation {
    condition     = contains(["elastic", "bursting"], var.throughput_mode)
    error_message = "Give elastic or bursting."
  }
}

variable "existing_file_system_id" {
  description = "A file system that a backup was restored to, in place of a new one"
  type        = string
  default     = null
}

variable "directory" {
  description = "The directory on the file system that the tasks see"
  type        = string
  default     = "/holdfast"
}

variable "tasks" {
  type    = number
  default = 2
}

variable "most_tasks" {
  type    = number
  default = 6
}

variable "on_demand_tasks" {
  description = "How many of them run on FARGATE, which is never interrupted; the others on FARGATE_SPOT"
  type        = number
  default     = 1
}

variable "log_retention" {
  description = "Days"
  type        = number
  default     = 365
}

variable "access_log_bucket" {
  description = "An S3 bucket that lets Elastic Load Balancing write its access log"
  type        = string
  default     = null
}

variable "alarm_topic_arn" {
  description = "The SNS topic that is told of alarms"
  type        = string
  default     = null
}
