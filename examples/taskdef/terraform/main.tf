# A Fargate service whose application reads a Snowflake key that a sidecar keeps fresh: KMS key, roles, log
# group, task definition, service, alarms, and if rotate_after_days is set a rotation by schedule.
#
# The two parameters are not here: Terraform keeps each value that it sets in its state. So apply with desired_count =
# 0, run the commands in the outputs, and then apply with desired_count = 1.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  key_storage = {
    disk = { formats = "der,pem", serve = "", path = "/run/snowflake/rsa_key.pem", health_interval = 5, health_retries = 3 }
    # A sidecar that restarts in an outage of SSM has no key, but the programs still have theirs: ECS waits five
    # minutes.
    memory = { formats = "none", serve = "der,pem", path = "/run/snowflake/rsa_key.der.sock", health_interval = 30, health_retries = 10 }
  }[var.key_storage]

  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  registry  = "${local.account}.dkr.ecr.${var.region}.${data.aws_partition.current.dns_suffix}"

  parameter_arns = [
    "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter${var.key_parameter}",
    "arn:${local.partition}:ssm:${var.region}:${local.account}:parameter${var.passphrase_parameter}",
  ]

  trust = {
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = {
        StringEquals = { "aws:SourceAccount" = local.account }
        ArnLike      = { "aws:SourceArn" = "arn:${local.partition}:ecs:${var.region}:${local.account}:*" }
      }
    }]
  }
}

# No policy: by the default one, IAM policies decide who may use the key. Here only the task role may decrypt, and the
# rotation's if there is one. Nothing that the key encrypted can be read without it.
resource "aws_kms_key" "parameters" {
  description         = "parameters ${var.key_parameter} and ${var.passphrase_parameter}"
  enable_key_rotation = true

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "task" {
  name              = "/ecs/${var.name}"
  retention_in_days = 30
}

# What the containers may do. Every container of the task has this role.
resource "aws_iam_role" "task" {
  name               = "${var.name}-task"
  assume_role_policy = jsonencode(local.trust)
}

resource "aws_iam_role_policy" "task" {
  name = "read-the-snowflake-key"
  role = aws_iam_role.task.id

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
        Action   = "kms:Decrypt"
        Resource = aws_kms_key.parameters.arn
        Condition = {
          StringEquals = {
            "kms:ViaService"                      = "ssm.${var.region}.amazonaws.com"
            "kms:EncryptionContext:PARAMETER_ARN" = local.parameter_arns
          }
        }
      },
    ]
  })
}

# What ECS may do to start the task: pull two images, write to one log group.
resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = jsonencode(local.trust)
}

resource "aws_iam_role_policy" "execution" {
  name = "start-the-task"
  role = aws_iam_role.execution.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        # IAM knows no resource for this one action.
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Effect = "Allow"
        Action = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        Resource = [
          "arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.sidecar_repository}",
          "arn:${local.partition}:ecr:${var.region}:${local.account}:repository/${var.app_repository}",
        ]
      },
      {
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${aws_cloudwatch_log_group.task.arn}:*"
      },
    ]
  })
}

resource "aws_ecs_task_definition" "task" {
  family                   = var.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = "256"
  memory                   = "512"
  task_role_arn            = aws_iam_role.task.arn
  execution_role_arn       = aws_iam_role.execution.arn

  # Ephemeral storage, the only thing that containers can share on Fargate: a disk, encrypted at rest.
  volume {
    name = "snowflake-key"
  }

  container_definitions = jsonencode([
    {
      name                   = "sidecar"
      image                  = "${local.registry}/${var.sidecar_repository}@${var.sidecar_digest}"
      essential              = true
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      linuxParameters        = { capabilities = { drop = ["ALL"] } }
      environment = [
        { name = "SNOWKEY_KEY_PARAMETER", value = var.key_parameter },
        { name = "SNOWKEY_PASSPHRASE_PARAMETER", value = var.passphrase_parameter },
        { name = "SNOWKEY_FORMATS", value = local.key_storage.formats },
        { name = "SNOWKEY_SERVE", value = local.key_storage.serve },
        { name = "SNOWKEY_EMF", value = var.name }, # the alarms' metrics, through the log
      ]
      mountPoints = [{ sourceVolume = "snowflake-key", containerPath = "/run/snowflake" }]
      healthCheck = {
        command     = ["CMD", "/sidecar", "healthcheck"]
        interval    = local.key_storage.health_interval
        timeout     = 5
        retries     = local.key_storage.health_retries
        startPeriod = 60
      }
      # Exit code 2 means that a setting is wrong: starting again does not help.
      restartPolicy = { enabled = true, ignoredExitCodes = [2], restartAttemptPeriod = 60 }
      stopTimeout   = 10
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.task.name
          "awslogs-region"        = var.region
          "awslogs-stream-prefix" = "sidecar"
        }
      }
    },
    {
      name                   = "app"
      image                  = "${local.registry}/${var.app_repository}@${var.app_digest}"
      essential              = true
      user                   = "65532:65532"
      readonlyRootFilesystem = true
      linuxParameters = {
        capabilities = { drop = ["ALL"] }
        tmpfs        = [{ containerPath = "/tmp", size = 16, mountOptions = ["noexec", "nosuid", "nodev"] }]
      }
      dependsOn = [{ containerName = "sidecar", condition = "HEALTHY" }]
      environment = [
        { name = "SNOWFLAKE_ACCOUNT", value = var.snowflake_account },
        { name = "SNOWFLAKE_USER", value = var.snowflake_user },
        { name = "SNOWFLAKE_PRIVATE_KEY_PATH", value = local.key_storage.path },
      ]
      mountPoints   = [{ sourceVolume = "snowflake-key", containerPath = "/run/snowflake", readOnly = true }]
      restartPolicy = { enabled = true, restartAttemptPeriod = 60 }
      stopTimeout   = 30
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          "awslogs-group"         = aws_cloudwatch_log_group.task.name
          "awslogs-region"        = var.region
          "awslogs-stream-prefix" = "app"
        }
      }
    },
  ])
}

resource "aws_ecs_service" "task" {
  name                   = var.name
  cluster                = var.cluster
  launch_type            = "FARGATE"
  platform_version       = "LATEST"
  task_definition        = aws_ecs_task_definition.task.arn
  desired_count          = var.desired_count
  enable_execute_command = false # ECS Exec runs as root, which reads every file of the task

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnets
    security_groups  = var.security_groups
    assign_public_ip = var.assign_public_ip
  }

  # A task fails if it starts before its roles have their permissions.
  depends_on = [aws_iam_role_policy.task, aws_iam_role_policy.execution]
}
