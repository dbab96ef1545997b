# What somebody should look at; docs/fargate.md tells what each means.

locals {
  load_balancer = { LoadBalancer = aws_lb.this.arn_suffix }
  target_group  = merge(local.load_balancer, { TargetGroup = aws_lb_target_group.this.arn_suffix })
  file_system   = { FileSystemId = local.file_system_id }

  load_balancer_alarms = {
    server-errors = {
      description = "Holdfast answers with 5xx"
      metric      = "HTTPCode_Target_5XX_Count"
      dimensions  = local.target_group
      statistic   = "Sum"
      at_least    = 10
    }
    load-balancer-errors = {
      description = "No task of Holdfast answers the load balancer"
      metric      = "HTTPCode_ELB_5XX_Count"
      dimensions  = local.load_balancer
      statistic   = "Sum"
      at_least    = 10
    }
    unhealthy-tasks = {
      description = "A task of Holdfast cannot use its store"
      metric      = "UnHealthyHostCount"
      dimensions  = local.target_group
      statistic   = "Maximum"
      at_least    = 1
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "load_balancer" {
  for_each = local.load_balancer_alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.description
  namespace           = "AWS/ApplicationELB"
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.statistic
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  threshold           = each.value.at_least
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "no_healthy_task" {
  alarm_name          = "${var.name}-no-healthy-task"
  alarm_description   = "No task of Holdfast can be used"
  namespace           = "AWS/ApplicationELB"
  metric_name         = "HealthyHostCount"
  dimensions          = local.target_group
  statistic           = "Minimum"
  period              = 60
  evaluation_periods  = 2
  threshold           = 1
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "breaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "file_system_busy" {
  count = local.on_files ? 1 : 0

  alarm_name          = "${var.name}-file-system-busy"
  alarm_description   = "Holdfast's file system is near the most operations that it can do"
  namespace           = "AWS/EFS"
  metric_name         = "PercentIOLimit"
  dimensions          = local.file_system
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 3
  threshold           = 80
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "burst_credits_low" {
  count = local.on_files && var.throughput_mode == "bursting" ? 1 : 0

  alarm_name         = "${var.name}-burst-credits-low"
  alarm_description  = "Holdfast's file system will soon be slow, having used up its burst credits"
  namespace          = "AWS/EFS"
  metric_name        = "BurstCreditBalance"
  dimensions         = local.file_system
  statistic          = "Minimum"
  period             = 300
  evaluation_periods = 3
  # Bytes: an hour at 100 MiB a second is 360 GiB; this is a half.
  threshold           = 193273528320
  comparison_operator = "LessThanThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}

resource "aws_cloudwatch_metric_alarm" "table_throttled" {
  count = local.in_dynamodb ? 1 : 0

  alarm_name          = "${var.name}-table-throttled"
  alarm_description   = "DynamoDB makes Holdfast wait"
  namespace           = "AWS/DynamoDB"
  metric_name         = "ThrottledRequests"
  dimensions          = { TableName = aws_dynamodb_table.this[0].name }
  statistic           = "Sum"
  period              = 60
  evaluation_periods  = 5
  datapoints_to_alarm = 3
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arn[*]
  ok_actions          = var.alarm_topic_arn[*]
  tags                = local.tags
}
