output "mcp_url" {
  description = "What clients are given"
  value       = "https://${var.host}/mcp"
}

output "load_balancer_host" {
  description = "Where the host name has to lead, if not through hosted_zone_id"
  value       = aws_lb.this.dns_name
}

output "secret_arns" {
  description = "Where the PIN and the keys are"
  value       = local.secret_arns
}

output "cluster_name" {
  value = aws_ecs_cluster.this.name
}

output "service_name" {
  value = aws_ecs_service.this.name
}

output "task_definition_arn" {
  value = aws_ecs_task_definition.this.arn
}

output "task_network" {
  description = "For aws ecs run-task"
  value       = "awsvpcConfiguration={subnets=[${join(",", var.task_subnet_ids)}],securityGroups=[${aws_security_group.task.id}],assignPublicIp=${var.assign_public_ip ? "ENABLED" : "DISABLED"}}"
}

output "file_system_id" {
  value = local.file_system_id
}
