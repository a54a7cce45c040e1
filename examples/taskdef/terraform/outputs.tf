output "put_key" {
  description = "stores the encrypted key; run it once, and again for each new key"
  value       = "aws ssm put-parameter --overwrite --type SecureString --key-id ${aws_kms_key.parameters.key_id} --name ${var.key_parameter} --value file://rsa_key.p8"
}

output "put_passphrase" {
  description = "stores its passphrase"
  value       = "aws ssm put-parameter --overwrite --type SecureString --key-id ${aws_kms_key.parameters.key_id} --name ${var.passphrase_parameter} --value file://passphrase"
}

output "log_group_name" {
  description = "where the containers log"
  value       = aws_cloudwatch_log_group.task.name
}

output "run_rotation" {
  description = "runs the rotation now, if rotate_after_days is set"
  value       = "aws ecs run-task --cluster ${var.cluster} --task-definition ${var.name}-rotate --launch-type FARGATE --network-configuration 'awsvpcConfiguration={subnets=[${join(",", var.subnets)}],securityGroups=[${join(",", var.security_groups)}],assignPublicIp=${var.assign_public_ip ? "ENABLED" : "DISABLED"}}'"
}
