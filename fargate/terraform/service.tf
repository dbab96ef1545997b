locals {
  secret_arns = { for name, secret in aws_secretsmanager_secret.this : name => secret.arn }

  # What all of it is made of, with every control in place, is ../task-definition.json.
  definition = jsondecode(templatefile("${path.module}/../task-definition.json", {
    IMAGE                  = "${local.account}.dkr.ecr.${local.region}.${data.aws_partition.current.dns_suffix}/${var.repository}:${var.tag}"
    REGION                 = local.region
    BASE_URL               = "https://${var.host}"
    PROXY_ADDRESSES        = join(",", [for subnet in data.aws_subnet.load_balancer : subnet.cidr_block])
    EXECUTION_ROLE_ARN     = aws_iam_role.execution.arn
    TASK_ROLE_ARN          = aws_iam_role.task.arn
    FILE_SYSTEM_ID         = local.on_files ? local.file_system_id : ""
    ACCESS_POINT_ID        = local.on_files ? aws_efs_access_point.this[0].id : ""
    PIN_SECRET_ARN         = local.secret_arns["pin"]
    SIGNING_KEY_SECRET_ARN = local.secret_arns["signing-key"]
    STORAGE_KEY_SECRET_ARN = local.secret_arns["storage-key"]
    CPU_ARCHITECTURE       = var.cpu_architecture
    CPU                    = var.cpu
    MEMORY                 = var.memory
    LOG_GROUP              = aws_cloudwatch_log_group.this.name
  }))
  container = local.definition.containerDefinitions[0]

  table_url = [for table in aws_dynamodb_table.this : "dynamodb://${table.name}?region=${local.region}"]
  previous = {
    for key in var.previous_keys :
    "HOLDFAST_${upper(key)}_KEY_PREVIOUS" => "${local.secret_arns["${key}-key"]}::AWSPREVIOUS:"
  }

  container_definition = merge(local.container, {
    mountPoints = [for mount in local.container.mountPoints : mount if local.on_files]
    environment = concat(
      local.container.environment,
      [for url in local.table_url : { name = "HOLDFAST_STORAGE_URL", value = url }],
      [for name, value in var.settings : { name = name, value = value }],
    )
    secrets = concat(
      local.container.secrets,
      [for name, arn in merge(local.previous, var.secrets) : { name = name, valueFrom = arn }],
    )
  })
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = var.log_retention
  tags              = local.tags
}

resource "aws_ecs_task_definition" "this" {
  family                   = var.name
  requires_compatibilities = local.definition.requiresCompatibilities
  network_mode             = local.definition.networkMode
  cpu                      = local.definition.cpu
  memory                   = local.definition.memory
  execution_role_arn       = local.definition.executionRoleArn
  task_role_arn            = local.definition.taskRoleArn
  container_definitions    = jsonencode([local.container_definition])
  tags                     = local.tags

  runtime_platform {
    cpu_architecture        = local.definition.runtimePlatform.cpuArchitecture
    operating_system_family = local.definition.runtimePlatform.operatingSystemFamily
  }

  dynamic "volume" {
    for_each = [for volume in local.definition.volumes : volume if local.on_files]

    content {
      name = volume.value.name

      efs_volume_configuration {
        file_system_id     = volume.value.efsVolumeConfiguration.fileSystemId
        transit_encryption = volume.value.efsVolumeConfiguration.transitEncryption

        authorization_config {
          access_point_id = volume.value.efsVolumeConfiguration.authorizationConfig.accessPointId
          iam             = volume.value.efsVolumeConfiguration.authorizationConfig.iam
        }
      }
    }
  }
}

resource "aws_ecs_cluster" "this" {
  name = var.name
  tags = local.tags

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}

resource "aws_ecs_service" "this" {
  name                              = var.name
  cluster                           = aws_ecs_cluster.this.id
  task_definition                   = aws_ecs_task_definition.this.arn
  platform_version                  = "LATEST"
  desired_count                     = var.tasks
  health_check_grace_period_seconds = 300
  availability_zone_rebalancing     = "ENABLED"
  enable_execute_command            = false
  propagate_tags                    = "TASK_DEFINITION"
  tags                              = local.tags

  # Old and new tasks serve side by side: all that must happen once is claimed in the store, among any number.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  capacity_provider_strategy {
    capacity_provider = "FARGATE"
    base              = var.on_demand_tasks
    weight            = 0
  }

  capacity_provider_strategy {
    capacity_provider = "FARGATE_SPOT"
    weight            = 1
  }

  network_configuration {
    assign_public_ip = var.assign_public_ip
    subnets          = var.task_subnet_ids
    security_groups  = [aws_security_group.task.id]
  }

  load_balancer {
    container_name   = local.container.name
    container_port   = local.container.portMappings[0].containerPort
    target_group_arn = aws_lb_target_group.this.arn
  }

  # What tasks need at their start.
  depends_on = [
    aws_ecs_cluster_capacity_providers.this,
    aws_efs_mount_target.this,
    aws_iam_role_policy.execution,
    aws_iam_role_policy.table,
    aws_iam_role_policy.volume,
    aws_lb_listener.https,
    aws_secretsmanager_secret_version.this,
    aws_vpc_security_group_egress_rule.tasks_to_https,
    aws_vpc_security_group_egress_rule.tasks_to_mount_targets,
  ]

  lifecycle {
    # Autoscaling changes it.
    ignore_changes = [desired_count]
  }
}

resource "aws_appautoscaling_target" "this" {
  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this.name}"
  min_capacity       = var.tasks
  max_capacity       = var.most_tasks
}

resource "aws_appautoscaling_policy" "cpu" {
  name               = "cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.this.service_namespace
  scalable_dimension = aws_appautoscaling_target.this.scalable_dimension
  resource_id        = aws_appautoscaling_target.this.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_out_cooldown = 60
    scale_in_cooldown  = 300

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}
