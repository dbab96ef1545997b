# What must outlive everything else: without these nobody stays signed in. Terraform destroys none of them.

resource "aws_efs_file_system" "this" {
  count = local.new_file_system ? 1 : 0

  encrypted        = true
  performance_mode = "generalPurpose"
  throughput_mode  = var.throughput_mode
  tags             = merge(local.tags, { Name = var.name })

  lifecycle_policy {
    transition_to_ia = "AFTER_30_DAYS"
  }

  lifecycle_policy {
    transition_to_primary_storage_class = "AFTER_1_ACCESS"
  }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_efs_backup_policy" "this" {
  count = local.new_file_system ? 1 : 0

  file_system_id = local.file_system_id

  backup_policy {
    status = "ENABLED"
  }
}

# It allows nothing; what a role may do, its own policy says.
resource "aws_efs_file_system_policy" "this" {
  count = local.new_file_system ? 1 : 0

  file_system_id = local.file_system_id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "OnlyEncrypted"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "*"
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "OnlyThroughAnAccessPoint"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action = [
          "elasticfilesystem:ClientMount",
          "elasticfilesystem:ClientWrite",
          "elasticfilesystem:ClientRootAccess",
        ]
        Condition = { Null = { "elasticfilesystem:AccessPointArn" = "true" } }
      },
    ]
  })
}

resource "aws_efs_access_point" "this" {
  count = local.on_files ? 1 : 0

  file_system_id = local.file_system_id
  tags           = local.tags

  posix_user {
    uid = 10001
    gid = 10001
  }

  root_directory {
    path = var.directory

    creation_info {
      owner_uid   = 10001
      owner_gid   = 10001
      permissions = "0700"
    }
  }
}

resource "aws_efs_mount_target" "this" {
  for_each = local.on_files ? var.task_subnet_ids : []

  file_system_id  = local.file_system_id
  subnet_id       = each.value
  security_groups = aws_security_group.mount_target[*].id
}

resource "aws_dynamodb_table" "this" {
  count = local.in_dynamodb ? 1 : 0

  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "collection"
  range_key                   = "key"
  deletion_protection_enabled = true
  tags                        = local.tags

  attribute {
    name = "collection"
    type = "S"
  }

  attribute {
    name = "key"
    type = "S"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  # A restored past would bring back revoked sessions and spent refresh tokens.
  point_in_time_recovery {
    enabled = false
  }

  lifecycle {
    prevent_destroy = true
  }
}

locals {
  generated = {
    pin         = "The PIN that signs people in where there is no identity provider"
    signing-key = "The key that signs tokens"
    storage-key = "The key that seals the store; whatever is stored is lost without it"
  }
}

# Made anew at each run and written at the first one only, so no state and no plan ever holds what is in use.
ephemeral "aws_secretsmanager_random_password" "this" {
  for_each = local.generated

  password_length            = each.key == "pin" ? 12 : 64
  exclude_punctuation        = true
  exclude_uppercase          = each.key == "pin"
  exclude_lowercase          = each.key == "pin"
  require_each_included_type = true
}

resource "aws_secretsmanager_secret" "this" {
  for_each = local.generated

  name_prefix = "${var.name}/${each.key}-"
  description = each.value
  tags        = local.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_secretsmanager_secret_version" "this" {
  for_each = local.generated

  secret_id                = aws_secretsmanager_secret.this[each.key].id
  secret_string_wo         = ephemeral.aws_secretsmanager_random_password.this[each.key].random_password
  secret_string_wo_version = 1
}
