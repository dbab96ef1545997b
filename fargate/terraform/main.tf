# Holdfast on Fargate Spot behind a load balancer, its state on EFS or in DynamoDB: the same as ../stack.yaml.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

data "aws_subnet" "load_balancer" {
  for_each = var.load_balancer_subnet_ids
  id       = each.value
}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.region

  on_files        = var.storage == "efs"
  in_dynamodb     = var.storage == "dynamodb"
  new_file_system = local.on_files && var.existing_file_system_id == null
  file_system_id  = local.new_file_system ? one(aws_efs_file_system.this[*].id) : var.existing_file_system_id

  tags = { application = var.name }
}
