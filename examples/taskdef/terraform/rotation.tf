# A task that is run every day, and makes a key when the one in use is old enough. It has a role of its own, which may
# write the key's parameter; the application's may not.

locals {
  rotation = var.rotate_after_days > 0 ? 1 : 0

  key_arn       = local.parameter_arns[0]
  lease_arn     = "${local.key_arn}.rotation"
  cluster_arn   = "arn:${local.partition}:ecs:${var.region}:${local.account}:cluster/${var.cluster}"
  rotate_family = "arn:${local.partition}:ecs:${var.region}:${local.account}:task-definition/${var.name}-rotate"
}

resource "aws_iam_role" "rotate_task" {
  count = local.rotation

  name               = "${var.name}-rotate-task"
  assume_role_policy = jsonencode(local.trust)
}

resource "aws_iam_role_policy" "rotate_task" {
  count = local.rotation

  name = "rotate-the-snowflake-key"
  role = aws_iam_role.rotate_task[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect   = "Allow"
        Action   = "ssm:GetParameters"
        Resource = local.parameter_arns
      },
      {
        Effect   = "Allow"
        Action   = ["ssm:GetParameterHistory", "ssm:PutParameter"]
        Resource = [local.key_arn, local.lease_arn]
      },
      {
        Effect   = "Allow"
        Action   = "ssm:DeleteParameter"
        Resource = local.lease_arn
      },
      {
        Effect   = "Allow"
        Action   = "kms:Decrypt"
        Resource = aws_kms_key.parameters.arn
        Condition = {
          StringEquals = {
            "kms:ViaService"                      = "ssm.${var.region}.amazonaws.com"
            "kms:EncryptionContext:PARAMETER_ARN" = local.parameter_arns
          }
        }
      },
      {
        # kms:GenerateDataKey instead if the key's parameter is of the Advanced tier.
        Effect   = "Allow"
        Action   = "kms:Encrypt"
        Resource = aws_kms_key.parameters.arn
        Condition = {
          StringEquals = {
            "kms:ViaService"                      = "ssm.${var.region}.amazonaws.com"
            "kms:EncryptionContext:PARAMETER_ARN" = local.key_arn
          }
        }
      },
    ]
  })
}

resource "aws_ecs_task_definition" "rotate" {
  count = local.rotation

  family                   = "${var.name}-rotate"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  task_role_arn            = aws_iam_role.rotate_task[0].arn
  execution_role_arn       = aws_iam_role.execution.arn

  container_definitions = jsonencode([
    {
      name                   = "rotate"
      image                  = "${local.registry}/${var.sidecar_repository}@${var.sidecar_digest}"
      essential              = true
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      # The age is in the command, so that run-task can replace both: rotate --force-new takes no age.
      command = ["rotate", "--max-age", "${var.rotate_after_days}d"]
      environment = concat([
        { name = "SNOWKEY_KEY_PARAMETER", value = var.key_parameter },
        { name = "SNOWKEY_PASSPHRASE_PARAMETER", value = var.passphrase_parameter },
        { name = "SNOWFLAKE_ACCOUNT", value = var.snowflake_account },
        { name = "SNOWFLAKE_USER", value = var.snowflake_user },
      ], var.snowflake_role == "" ? [] : [{ name = "SNOWFLAKE_ROLE", value = var.snowflake_role }])
      stopTimeout = 120
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.task.name
          "awslogs-region"        = var.region
          "awslogs-stream-prefix" = "rotate"
        }
      }
    },
  ])
}

# What the scheduler may do: run this task in this cluster.
resource "aws_iam_role" "rotate_scheduler" {
  count = local.rotation

  name = "${var.name}-rotate-scheduler"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "scheduler.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:scheduler:${var.region}:${local.account}:schedule-group/default" }
      }
    }]
  })
}

resource "aws_iam_role_policy" "rotate_scheduler" {
  count = local.rotation

  name = "run-the-rotation"
  role = aws_iam_role.rotate_scheduler[0].id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Effect    = "Allow"
        Action    = "ecs:RunTask"
        Resource  = [local.rotate_family, "${local.rotate_family}:*"]
        Condition = { ArnEquals = { "ecs:cluster" = local.cluster_arn } }
      },
      {
        Effect    = "Allow"
        Action    = "iam:PassRole"
        Resource  = [aws_iam_role.rotate_task[0].arn, aws_iam_role.execution.arn]
        Condition = { StringEquals = { "iam:PassedToService" = "ecs-tasks.amazonaws.com" } }
      },
    ]
  })
}

resource "aws_scheduler_schedule" "rotate" {
  count = local.rotation

  name                = "${var.name}-rotate"
  schedule_expression = "cron(0 3 * * ? *)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = local.cluster_arn
    role_arn = aws_iam_role.rotate_scheduler[0].arn

    ecs_parameters {
      task_definition_arn = aws_ecs_task_definition.rotate[0].arn
      task_count          = 1
      launch_type         = "FARGATE"
      platform_version    = "LATEST"

      network_configuration {
        subnets          = var.subnets
        security_groups  = var.security_groups
        assign_public_ip = var.assign_public_ip
      }
    }

    retry_policy {
      maximum_event_age_in_seconds = 3600
      maximum_retry_attempts       = 10
    }
  }

  # A task fails if it starts before its roles have their permissions.
  depends_on = [aws_iam_role_policy.rotate_task, aws_iam_role_policy.rotate_scheduler, aws_iam_role_policy.execution]
}
