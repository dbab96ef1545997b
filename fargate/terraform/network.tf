# Who may talk to whom.

resource "aws_security_group" "load_balancer" {
  name_prefix = "${var.name}-load-balancer-"
  description = "The load balancer of Holdfast"
  vpc_id      = var.vpc_id
  tags        = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = { https = 443, http = 80 }

  security_group_id = aws_security_group.load_balancer.id
  description       = each.key == "http" ? "sent on to https" : "clients"
  ip_protocol       = "tcp"
  from_port         = each.value
  to_port           = each.value
  cidr_ipv4         = var.clients
}

resource "aws_vpc_security_group_egress_rule" "load_balancer_to_tasks" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "MCP and health checks"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
  referenced_security_group_id = aws_security_group.task.id
}

resource "aws_security_group" "task" {
  name_prefix = "${var.name}-task-"
  description = "The tasks of Holdfast"
  vpc_id      = var.vpc_id
  tags        = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "tasks_from_load_balancer" {
  security_group_id            = aws_security_group.task.id
  description                  = "MCP and health checks"
  ip_protocol                  = "tcp"
  from_port                    = 8000
  to_port                      = 8000
  referenced_security_group_id = aws_security_group.load_balancer.id
}

resource "aws_vpc_security_group_egress_rule" "tasks_to_https" {
  security_group_id = aws_security_group.task.id
  description       = "AWS and the identity provider"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "tasks_to_payload" {
  security_group_id = aws_security_group.task.id
  description       = "the database"
  ip_protocol       = "tcp"
  from_port         = var.payload_port
  to_port           = var.payload_port
  cidr_ipv4         = var.payload_network
}

resource "aws_vpc_security_group_egress_rule" "tasks_to_mount_targets" {
  count = local.on_files ? 1 : 0

  security_group_id            = aws_security_group.task.id
  description                  = "NFS"
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  referenced_security_group_id = aws_security_group.mount_target[0].id
}

resource "aws_security_group" "mount_target" {
  count = local.on_files ? 1 : 0

  name_prefix = "${var.name}-volume-"
  description = "The file system of Holdfast"
  vpc_id      = var.vpc_id
  tags        = local.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "mount_targets_from_tasks" {
  count = local.on_files ? 1 : 0

  security_group_id            = aws_security_group.mount_target[0].id
  description                  = "NFS"
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  referenced_security_group_id = aws_security_group.task.id
}
